"""`oodwatch replay`, as a person types it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.app import app
from pipeline.errors import OodwatchError, RefusedError, UsageError
from pipeline.shift.histogram import expected_shares

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
Line = dict[str, Any]


def line(t: int, segment: str = "north", n: float = 60, flagged: float = 3, **more: object) -> Line:
    start = (MONDAY + timedelta(minutes=t)).isoformat()
    return {"start": start, "minutes": 1, "segment": segment, "n": n, "flagged": flagged, **more}


def replay(folder: Path, given: list[Line] | str, *arguments: object) -> Result:
    file = folder / "ticks.jsonl"
    file.write_text(given if isinstance(given, str) else "\n".join(map(json.dumps, given)))
    options = ["replay", "--ticks", file, "--n-calibration", 2000, *arguments]
    return CliRunner().invoke(app, [str(option) for option in options])


def verdicts(result: Result) -> list[Line]:
    assert result.exit_code == 0, result.output
    return [json.loads(text) for text in result.stdout.splitlines()]


def failure(result: Result) -> OodwatchError:
    assert isinstance(result.exception, OodwatchError), result.exception
    assert "\n" not in str(result.exception)
    return result.exception


def test_one_segment_gives_the_streams_of_all_traffic_only(tmp_path: Path) -> None:
    found = verdicts(replay(tmp_path, [line(t, flagged=3 if t < 20 else 30) for t in range(22)], "--json"))
    assert [one["stream"] for one in found] == ["pooled", "low"] * 22
    assert list(found[0]) == ["start", "stream", "state", "log_evidence", "onset", "share", "low", "high"]
    last = found[-2]
    assert (last["state"], last["onset"], last["share"]) == ("critical", "2026-01-05T00:20:00Z", 0.5)
    assert last["low"] == pytest.approx(0.4074, abs=1e-4)
    assert found[0]["log_evidence"] < 11.7 < last["log_evidence"]


def test_segments_and_histograms_have_streams_of_their_own(tmp_path: Path) -> None:
    histogram = [60 * share for share in expected_shares(2000).tolist()]
    flagged = sum(histogram[14:])
    given = [line(0, name, 60, flagged, histogram=histogram) for name in ("b", "a")]
    found = verdicts(replay(tmp_path, given, "--json"))
    assert [one["stream"] for one in found] == [
        *("pooled", "segment:b", "segment:a"),
        *("histogram", "histogram:b", "histogram:a"),
        "low",
    ]
    assert {one["state"] for one in found} == {"ok"}


def test_without_json_only_changes_are_told(tmp_path: Path) -> None:
    told = replay(tmp_path, [line(t, flagged=3 if t < 20 else 12) for t in range(40)]).stdout
    assert "ok → warning" in told
    assert len(told.splitlines()) == 2
    assert replay(tmp_path, [line(t) for t in range(5)]).stdout == "nothing raised in 5 ticks\n"


def test_a_larger_budget_of_false_alarms_finds_sooner(tmp_path: Path) -> None:
    given = [line(t, flagged=8) for t in range(120)]

    def first(days: float) -> int:
        states = [one["state"] for one in verdicts(replay(tmp_path, given, "--json", "--budget-days", days))[::2]]
        return states.index("warning")

    assert first(0.1) < first(30) < first(3000)


def changed(at: int, **values: object) -> Callable[[], list[Line]]:
    def make() -> list[Line]:
        lines = [line(t) for t in range(3)]
        lines[at] = {name: value for name, value in {**lines[at], **values}.items() if value != "absent"}
        return lines

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (changed(2, start="2026-01-04T00:00:00Z"), "line 3: start 2026-01-04T00:00:00Z goes back behind"),
        (changed(1, start="2026-01-05T00:00:30Z"), "line 2: start 2026-01-05T00:00:30Z overlaps"),
        (changed(1, start="2026-01-05T00:00:00Z"), "line 2: segment 'north' stands twice"),
        (changed(1, start="2026-01-05T00:01:00"), "line 2: start = '2026-01-05T00:01:00' has no time zone"),
        (changed(1, start="noon"), "line 2: start = 'noon': write an ISO time"),
        (changed(1, start=7), "line 2: start = 7: write an ISO time"),
        (changed(0, flagged=61), "line 1: flagged = 61 of n = 60 images: more flags than images"),
        (changed(0, n=-1), "line 1: n = -1: must be a number from 0 to 1e+15"),
        (changed(1, flagged=-0.5), "line 2: flagged = -0.5: must"),
        (changed(1, flagged=float("nan")), "line 2: flagged = NaN: must"),
        (changed(1, n=float("inf")), "line 2: n = Infinity: must"),
        (changed(1, n=10**400), "line 2: n = 1000"),
        (changed(1, minutes=1e9), "line 2: minutes = 1e+09: must be at most 44640"),
        (changed(1, start="9999-12-31T23:59:30Z"), "line 2: start = '9999-12-31T23:59:30Z': write"),
        (changed(1, n=True), "line 2: n = true: must"),
        (changed(1, n="absent"), "line 2: has no n"),
        (changed(1, minutes=0), "line 2: minutes = 0: must be above 0"),
        (changed(1, segment=None), "line 2: segment = None: write a name"),
        (changed(1, histogram=[60]), "line 2: histogram = [60]: write 18 counts"),
        (changed(1, histogram=[1] * 18), "line 2: the histogram holds 18 images, n = 60"),
        (changed(1, histogram=[-1] + [61] + [0] * 16), "line 2: histogram[0] = -1: must"),
        (lambda: '{"start"', "line 1: is no JSON"),
        (lambda: "[1]", "line 1: '[1]' is no JSON object"),
        (lambda: "\n\n", "there is no line in it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "line",
)
def test_bad_lines_are_named_with_what_is_wrong(
    tmp_path: Path, make: Callable[[], list[Line] | str], said: str
) -> None:
    error = failure(replay(tmp_path, make(), "--json"))
    assert said in str(error)
    assert type(error) is UsageError
    assert error.exit_code == 2


def test_minutes_of_one_tick_must_agree(tmp_path: Path) -> None:
    given = [line(0), line(0, "south", minutes=5)]
    assert "line 2: minutes = 5, where the tick of 2026-01-05T00:00:00Z has 1" in str(failure(replay(tmp_path, given)))


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("--n-calibration", 59), RefusedError, "at least 61 images are needed"),
        (("--n-calibration", 18), RefusedError, "at least 19 are needed"),
        (("--warning", 0.05), RefusedError, "no number of images would do"),
        (("--warning", 0.3), UsageError, "warning level 0.3 and critical level 0.25"),
        (("--budget-days", 0), UsageError, "must be a number above 0"),
        (("--target-fpr", 1), UsageError, "--target-fpr 1.0: must lie between 0 and 1"),
    ],
)
def test_what_cannot_be_promised_is_refused(
    tmp_path: Path, arguments: tuple[object, ...], kind: type[OodwatchError], said: str
) -> None:
    error = failure(replay(tmp_path, [line(0)], *arguments))
    assert type(error) is kind
    assert said in str(error)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["replay", "--ticks", str(tmp_path / "none"), "--n-calibration", "2000"])
    assert "No such file" in str(failure(result))
