import numpy as np
import pytest

from pipeline.alerts.accuracy import LabelledCount, confidence_threshold, estimated, from_labels


def test_as_many_of_the_references_images_lie_above_the_threshold_as_are_right() -> None:
    rng = np.random.default_rng(1)
    msp = rng.random(400)
    right = rng.random(400) < msp
    found = confidence_threshold(msp, right)
    assert found is not None
    assert (msp >= found.threshold).sum() == right.sum()
    assert found.accuracy == right.mean()
    itself = estimated(found, msp)
    assert itself is not None
    assert itself.share == found.accuracy


def test_less_confidence_is_less_accuracy() -> None:
    msp = np.linspace(0.3, 1, 100)
    found = confidence_threshold(msp, msp > 0.5)
    assert found is not None
    worse = estimated(found, msp - 0.2, d=4)
    assert worse is not None
    assert worse.share < found.accuracy
    assert worse.low < worse.share < worse.high
    assert worse.high - worse.low > 0.3  # a hundred images that count as 25


@pytest.mark.parametrize(("right", "share"), [(True, 1.0), (False, 0.0)])
def test_a_model_that_is_always_right_or_wrong_on_its_reference_stays_so(right: bool, share: float) -> None:
    found = confidence_threshold(np.linspace(0.5, 1, 60), np.full(60, right))
    assert found is not None
    same = estimated(found, np.linspace(0.5, 1, 60))
    assert same is not None
    assert same.share == share


def test_few_labels_and_no_image_estimate_nothing() -> None:
    assert confidence_threshold(np.ones(49), np.ones(49, np.bool_)) is None
    found = confidence_threshold(np.ones(50), np.ones(50, np.bool_))
    assert found is not None
    assert estimated(found, np.empty(0)) is None


def test_labels_count_by_segment_and_among_flagged() -> None:
    counts = [
        LabelledCount("east", True, 10, 2),
        LabelledCount("east", False, 10, 9),
        LabelledCount("north", False, 20, 19),
    ]
    found = from_labels(counts, "labels")
    assert found is not None
    assert (found.all.k, found.all.n) == (30, 40)
    assert found.flagged is not None
    assert found.unflagged is not None
    assert (found.flagged.k, found.flagged.n, found.unflagged.k, found.unflagged.n) == (2, 10, 28, 30)
    assert {name: one.share for name, one in found.segments.items()} == {"east": 0.55, "north": 0.95}
    assert from_labels([], "header") is None
