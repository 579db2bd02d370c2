"""Counts under another reference, from fine bins."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import RefusedError
from pipeline.shift.histogram import BINS, bin_of
from pipeline.shift.recount import Recount, added
from pipeline.shift.rollup import summarise_groups
from tests.watched_days import calibrated, rolled_up

OLD = calibrated()


def test_under_the_same_edges_nothing_changes() -> None:
    (sums,) = rolled_up(OLD, np.array([0.1]))
    recount = Recount(OLD, calibrated(2))
    counts = recount(sums, pooled=True)
    assert (counts.n, counts.flags) == (sums.n, sums.flags)
    assert counts.histogram is not None
    assert counts.histogram.tolist() == sums.histogram.tolist()
    assert counts.z_sum is sums.z_sum
    assert (recount.images, recount.uncertain) == (60, 0)


@pytest.mark.parametrize("shift", [-0.5, 0.013, 0.4])
def test_flags_under_another_threshold_are_wrong_by_the_bin_that_it_cuts_at_most(shift: float) -> None:
    scores = np.random.default_rng(1).normal(size=5000)
    other = calibrated(2, shift)
    (sums,) = summarise_groups(
        np.zeros(5000, np.int64),
        1,
        scores=scores,
        energies=scores,
        flags=scores > OLD.threshold,
        class_index=np.zeros(5000, np.int64),
        properties=np.zeros((5000, 5)),
        repeats=np.zeros(5000, np.bool_),
        late_clocks=np.zeros(5000, np.bool_),
        projected=None,
        edges=OLD.edges,
        fine_edges=OLD.fine_edges,
        n_classes=2,
    )
    recount = Recount(OLD, other)
    counts = recount(sums, pooled=True)
    true = int((scores > other.threshold).sum())
    assert abs(counts.flags - true) <= recount.uncertain < 0.02 * 5000
    assert counts.histogram is not None
    assert counts.histogram.sum() == pytest.approx(5000)
    exact = np.bincount(bin_of(scores, other.edges), minlength=BINS)
    assert np.abs(counts.histogram - exact).max() < 0.02 * 5000


def test_a_threshold_on_a_fine_edge_is_counted_exactly() -> None:
    edge = float(OLD.fine_edges[150])
    recount = Recount(OLD, replace(OLD, threshold=edge))
    for sums in rolled_up(OLD, np.full(20, 0.3)):
        assert recount(sums, pooled=False).flags == sums.fine_histogram[151:].sum()


def test_scores_that_mean_something_else_or_lie_too_far_away_are_refused() -> None:
    with pytest.raises(RefusedError, match=r"temperature is 1\.0 there and 2\.0 here"):
        Recount(OLD, replace(OLD, temperature=2.0))
    with pytest.raises(RefusedError, match=r"threshold 101.* lies outside of"):
        Recount(OLD, calibrated(2, 100.0))


def test_features_count_only_where_both_references_project_them_alike() -> None:
    (sums,) = rolled_up(OLD, np.array([0.1]))
    counts = Recount(OLD, replace(OLD, projection=-OLD.projection))(sums, pooled=True)
    assert (counts.z_n, counts.z_sum) == (0, None)
    both = added(counts, Recount(OLD, OLD)(sums, pooled=True))
    assert (both.n, both.z_n, both.z_sum) == (120, 60, sums.z_sum)
