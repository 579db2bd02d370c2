import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.localization.regions import (
    Box,
    Runs,
    box_of,
    enlarged,
    from_runs,
    overlap,
    regions_of_their_own,
    ring_fill,
    suppress,
    to_runs,
)
from tests.segmenting import random_boxes, suppressed_by_definition


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_runs_give_the_mask_back(mask: np.ndarray) -> None:
    runs = to_runs(mask)
    assert np.array_equal(from_runs(runs), mask)
    assert sum(runs.counts) == mask.size
    assert sum(runs.counts[1::2]) == mask.sum()


def test_runs_go_down_the_columns_and_begin_outside_as_in_coco() -> None:
    mask = np.array([[1, 0, 0], [1, 1, 0]], np.bool_)
    assert to_runs(mask) == Runs(2, 3, (0, 2, 1, 1, 2))
    assert to_runs(~mask) == Runs(2, 3, (2, 1, 1, 2))
    with pytest.raises(ValueError, match="runs of 5 pixels for 2 x 3"):
        from_runs(Runs(2, 3, (5,)))


@pytest.mark.parametrize("limit", [0.1, 0.5, 0.7, 1.0])
def test_box_suppression_is_that_of_its_definition_on_two_hundred_random_boxes(limit: float) -> None:
    boxes, scores = random_boxes(200)
    kept = suppress(boxes, scores, limit)
    assert kept == suppressed_by_definition(boxes, scores, limit)
    assert len(kept) == (200 if limit == 1 else len(set(kept)))


def test_the_overlap_of_masks_is_intersection_over_union() -> None:
    left, middle = np.zeros((4, 6), np.bool_), np.zeros((4, 6), np.bool_)
    left[:, :4], middle[:, 2:] = True, True
    assert overlap(left, middle) == pytest.approx(8 / 24)
    assert overlap(left, left) == 1
    assert overlap(np.zeros_like(left), np.zeros_like(left)) == 0
    assert box_of(middle) == Box(2, 0, 5, 3)


def test_a_region_becomes_the_median_of_its_ring_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    mask = np.zeros((12, 12), np.bool_)
    mask[4:7, 5:9] = True
    filled = ring_fill(picture, mask, 2)
    assert filled is not None
    ring = np.zeros_like(mask)
    ring[2:9, 3:11] = True
    ring &= ~mask
    assert np.array_equal(filled[~mask], picture[~mask])
    assert (filled[mask] == np.median(picture[ring], axis=0).round().astype(np.uint8)).all()
    assert ring_fill(picture, np.ones_like(mask), 2) is None


def test_specks_pictures_and_doubles_are_no_regions_of_their_own() -> None:
    def square(top: int, side: int) -> np.ndarray:
        mask = np.zeros((100, 100), np.bool_)
        mask[top : top + side, :side] = True
        return mask

    speck, thing, double, other, picture = square(0, 3), square(0, 40), square(1, 40), square(50, 40), square(0, 80)
    assert regions_of_their_own([speck, thing, double, other, picture]) == [1, 3]
    assert regions_of_their_own([double, thing]) == [0]


def test_an_enlarged_mask_keeps_its_place_and_its_share() -> None:
    mask = np.zeros((4, 6), np.bool_)
    mask[1:3, 2:5] = True
    large = enlarged(mask, 40, 90)
    assert large.mean() == mask.mean()
    assert box_of(large) == Box(30, 10, 74, 29)
    assert np.array_equal(enlarged(large, 4, 6), mask)
