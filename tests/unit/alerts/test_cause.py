from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from pipeline.alerts.cause import Cause, rank
from pipeline.alerts.profile import PROPERTIES, Profile, distance, moves
from pipeline.alerts.signs import Evidence, Mark, ModelChange
from pipeline.records import Float64s
from pipeline.shift.histogram import BINS, PROPERTY_BINS, expected_shares

ONSET = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
N = 2_000


def profile(n: int = N, *, flags: float = 0.05, repeats: float = 0.0, **looks: int) -> Profile:
    """n images, of three classes alike; each property fills four bins around 8, or around what is given."""
    counts = np.full(3, n / 3)
    properties = np.zeros((len(PROPERTIES), PROPERTY_BINS))
    for i, name in enumerate(PROPERTIES):
        at = looks.get(name, 8)
        properties[i, at - 2 : at + 2] = n / 4
    return Profile(n, flags * n, repeats * n, counts, counts * flags, scores(n, flags), properties)


def scores(n: int, flags: float) -> Float64s:
    """As calibrated below the threshold."""
    shares = expected_shares(2_000)
    above = shares[14:].sum()
    return n * np.concatenate([shares[:14] * (1 - flags) / (1 - above), shares[14:] * flags / above])


def evidence(now: Profile, **more: object) -> Evidence:
    found = Evidence(
        onset=ONSET,
        before=profile(),
        now=now,
        normal=0.05,
        segments=3,
        changed=["east"],
        classes=("cat", "dog", "car"),
        rate_before=60.0,
        rate_now=60.0,
    )
    return replace(found, **more)  # type: ignore[arg-type]


def first(found: Evidence) -> Cause:
    return rank(found)[0]


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ({"brightness": 3, "contrast": 4, "sharpness": 5}, "darker"),
        ({"brightness": 13}, "brighter"),
        ({"contrast": 4, "sharpness": 4, "colourfulness": 4}, "hazy"),
        ({"sharpness": 3}, "less sharp"),
    ],
)
def test_what_a_lens_or_an_exposure_does_is_called_so(looks: dict[str, int], words: str) -> None:
    cause = first(evidence(profile(flags=0.4, **looks)))
    assert cause.kind == "lens"
    assert cause.score == pytest.approx(0.9, abs=0.01)  # one of three segments
    assert f"the images are {words}" in cause.evidence


def test_repeats_are_a_frozen_source_and_explain_the_rest() -> None:
    causes = rank(evidence(profile(flags=0.9, repeats=0.95, brightness=3)))
    assert [causes[0].kind, causes[0].score] == ["frozen", 1.0]
    assert "95% of the images equal their segment's previous one" in causes[0].evidence[0]
    assert all(cause.score < 0.3 for cause in causes[1:])


def test_other_sizes_everywhere_are_the_pipelines() -> None:
    cause = first(evidence(profile(size=12), changed=["east", "north", "south"]))
    assert (cause.kind, cause.score) == ("pipeline", 1.0)
    assert cause.evidence[0].startswith("size lies higher for at least")


def test_flags_beside_images_that_are_as_before_are_new_content() -> None:
    cause = first(evidence(profile(flags=0.4)))
    assert (cause.kind, cause.score) == ("new_class", 1.0)
    assert cause.evidence[0] == "40.0% of the images are flagged as unusual; normally 5.0%"


def grey(**looks: Any) -> Profile:
    """Images without any colour."""
    found = profile(**looks)
    found.properties[PROPERTIES.index("colourfulness")] = np.eye(PROPERTY_BINS)[0] * found.n
    return found


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_brighter_images_of_less_contrast_and_as_much_detail_are_new_content(share: float) -> None:
    others, strange = profile(int(N * (1 - share)), flags=0.05), profile(int(N * share), brightness=12, contrast=4)
    now = replace(others + strange, flags=0.05 * others.n + 0.9 * strange.n)
    assert first(evidence(now)).kind == "new_class"


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_colour_among_grey_images_comes_from_no_exposure(share: float) -> None:
    others, strange = grey(n=int(N * (1 - share))), profile(int(N * share), brightness=12)
    now = replace(others + strange, flags=0.05 * others.n + 0.9 * strange.n)
    assert first(evidence(now, before=grey())).kind == "new_class"
    assert first(evidence(grey(flags=0.9, brightness=12), before=grey())).kind == "lens"


def test_noise_is_colour_and_detail_and_may_come_with_an_exposure() -> None:
    now = profile(flags=0.9, brightness=3, contrast=4, sharpness=8)
    assert first(evidence(now, before=grey())).kind == "lens"
    noisy = profile(flags=0.9, brightness=11, sharpness=13)
    assert first(evidence(noisy, before=grey())).kind == "lens"


def test_scores_that_move_below_the_threshold_too_while_images_look_the_same_are_the_pipelines() -> None:
    now = profile(flags=0.12)
    moved = replace(now, histogram=np.roll(now.histogram, 3))
    assert first(evidence(moved, changed=["east", "north", "south"])).kind == "pipeline"


def test_damage_of_the_card_that_only_a_pipeline_does_is_recognised() -> None:
    tilted = N * np.linspace(1, 2, BINS) / np.linspace(1, 2, BINS).sum()
    now = replace(profile(flags=0.3, contrast=6), histogram=tilted)
    card = {"red-blue swap": tilted / N, "blurred": expected_shares(2_000)}
    cause = first(evidence(now, card=card, changed=["east", "north", "south"]))
    assert cause.kind == "pipeline"
    assert any("'red-blue swap'" in said for said in cause.evidence)


def test_classes_that_change_without_flags_are_another_mix() -> None:
    now = replace(profile(), class_counts=np.array([0.8, 0.1, 0.1]) * N)
    cause = first(evidence(now))
    assert cause.kind == "class_mix"
    assert "class cat: 80% of the images, before 33%" in cause.evidence


@pytest.mark.parametrize(("after", "likely"), [(0, True), (-14, True), (-59, False), (30, False)])
def test_another_model_counts_where_it_began_near_the_onset(after: int, likely: bool) -> None:
    change = ModelChange(ONSET + after * MINUTE, "m-r1", "m-r2", model_changed=True)
    assert (first(evidence(profile(), changes=(change,))).kind == "model") is likely


def test_a_model_that_is_not_its_references_is_certain() -> None:
    assert first(evidence(profile(flags=0.4), invalid="model b is held against the reference of a")).kind == "model"


@pytest.mark.parametrize(("rate", "kind"), [(0.0, "traffic"), (15.0, "traffic"), (240.0, "traffic"), (70.0, "unknown")])
def test_traffic_that_stops_or_floods_is_named(rate: float, kind: str) -> None:
    now = profile() if rate else Profile.empty(3)
    assert first(evidence(now, rate_now=rate)).kind == kind


def test_nothing_that_moved_is_called_unknown() -> None:
    (cause,) = rank(evidence(profile()))
    assert cause.kind == "unknown"


def test_a_mark_near_the_onset_makes_its_cause_likelier_and_is_quoted() -> None:
    now = profile(size=10)
    before = next(cause for cause in rank(evidence(now)) if cause.kind == "pipeline")
    mark = Mark(ONSET - 4 * MINUTE, "deploy v12", "ann")
    after = next(cause for cause in rank(evidence(now, marks=(mark,))) if cause.kind == "pipeline")
    assert after.score == pytest.approx(before.score + 0.3 * (1 - before.score))
    assert after.evidence[-1] == "ann marked 'deploy v12' 4 min before the onset"
    old = Mark(ONSET - 90 * MINUTE, "deploy v11", "ann")
    assert rank(evidence(now, marks=(old,)))[0].score == before.score


def test_a_distance_between_two_samples_of_the_same_is_taken_for_chance() -> None:
    rng = np.random.default_rng(0)
    shares = np.full(16, 1 / 16)
    chance = [distance(rng.multinomial(300, shares), rng.multinomial(300, shares)) for _ in range(200)]
    assert np.mean(chance) < 0.012
    assert distance(np.array([100, 0]), np.array([0, 100])) > 0.85
    assert distance(np.zeros(3), np.array([1, 2, 3])) == 0


def test_a_move_has_a_direction_and_medians() -> None:
    move = moves(profile(), profile(brightness=12))["brightness"]
    assert move.direction == 1
    assert [move.before, move.now] == pytest.approx([0.5, 0.75])
    assert move.up > 0.9
    assert move.down == 0
