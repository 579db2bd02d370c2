from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.errors import RefusedError
from pipeline.records import Float32s, Float64s
from pipeline.reports.coverage_page import coverage_page
from pipeline.stages.coverage import compare
from pipeline.stages.coverage_report import COVERAGE_LOST, NOVEL, CoverageReport, ImageRows, Plan
from pipeline.storage.coverage import SegmentSupport

MODES = 6 / np.sqrt(2) * np.eye(16)
NAMES = ("north", "east", "south", "west", "new")


def images(seed: int, modes: Sequence[int], n: int = 300, *, segment: str | None = None) -> ImageRows:
    """Images in turn of some modes; a mode's name is the class, unless there is a segment."""
    mode = np.array(modes)[np.arange(n) % len(modes)]
    rows = MODES[mode] + np.random.default_rng(seed).normal(size=(n, 16))
    return named(rows, [segment or NAMES[one] for one in mode])


def named(rows: Float64s | Float32s, groups: Sequence[str]) -> ImageRows:
    return ImageRows("set", rows, [f"image {i}" for i in range(len(rows))], groups, picture=lambda i: b"webp")


REFERENCE = images(0, range(4), 1000)


def ask(production: ImageRows, *, traffic: Sequence[SegmentSupport] = ()) -> CoverageReport:
    return compare(REFERENCE, production, Plan(pictures=4), rng=np.random.default_rng(0), traffic=traffic)


def codes(report: CoverageReport) -> list[str]:
    return [finding.code for finding in report.findings]


def test_a_normal_window_finds_nothing() -> None:
    report = ask(images(1, range(4)))
    assert codes(report) == []
    assert report.warnings == ()
    assert "Nothing new, and nothing gone" in coverage_page(report)


def test_a_class_that_is_gone_is_named_with_its_images() -> None:
    report = ask(images(1, range(3)))
    assert codes(report) == [COVERAGE_LOST]
    assert [line.group for line in report.groups if line.is_lost] == ["west"]
    assert {image.group for image in report.least_covered} == {"west"}
    assert "west (" in report.findings[0].text
    assert "west: no longer covered" in coverage_page(report)


def test_a_class_that_is_new_is_named_with_its_images() -> None:
    report = ask(images(1, (0, 1, 2, 3, 4)))
    assert codes(report) == [NOVEL]
    assert report.segments[0].segment == "new"
    assert {image.group for image in report.least_supported[:4]} == {"new"}
    assert "What the reference does not know" in coverage_page(report)


def test_a_stuck_camera_is_one_scene_and_nothing_else() -> None:
    frame: Float64s = images(1, (0,), 1).rows.astype(np.float64)
    noisy = frame + 1e-3 * np.random.default_rng(2).normal(size=(200, 16))
    for production in (named(noisy, ["cam"] * 200), named(np.tile(frame, (200, 1)), ["cam"] * 200)):
        report = ask(production)
        assert codes(report) == [COVERAGE_LOST]
        assert "production hardly varies" in report.findings[0].text
    assert report.distinct_share == 1 / 200
    assert len(report.least_supported) == 1


def test_stored_supports_of_all_images_stand_in_for_those_of_the_samples() -> None:
    production = images(1, range(4), segment="cam")
    stored = SegmentSupport("cam", images=5000, supported=4000, mean_support=0.25, flagged=0.1)
    (line,) = ask(production, traffic=[stored]).segments
    assert (line.n, line.p_precision, line.flagged) == (4000, 0.25, 0.1)
    unknown = stored._replace(supported=0, mean_support=None)
    (line,) = ask(production, traffic=[unknown]).segments
    assert line.n == 300
    assert line.p_precision == pytest.approx(ask(production).measured.p_precision)


def test_a_reference_too_small_for_a_null_gives_the_figures_without_z() -> None:
    few = images(0, range(4), 10)
    report = compare(few, images(1, range(4), 10), Plan(), rng=np.random.default_rng(0))
    assert report.compared is None
    assert [line.matched for line in report.figures] == [None, None, None]
    assert report.warnings[0].startswith("without z: 10 reference rows and 10 of production")
    assert "–" in coverage_page(report)


def test_names_on_the_page_are_no_html() -> None:
    report = ask(named(images(1, range(4)).rows, ["<b>&"] * 300))
    assert "<b>&<" not in coverage_page(report)


def test_a_reference_of_equal_images_is_refused() -> None:
    equal = named(np.ones((50, 16)), ["a"] * 50)
    with pytest.raises(RefusedError, match="all 50 rows are equal"):
        compare(equal, images(1, range(4)), Plan(), rng=np.random.default_rng(0))
