import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RefusedError
from pipeline.shift.histogram import bin_of, edge_ranks, expected_shares, fine_edges, rank_edges
from pipeline.shift.threshold import clopper_pearson, conformal_rank, conformal_threshold, flag_rate_bounds, promise


def test_bounds_of_two_thousand_images_at_five_percent() -> None:
    assert conformal_rank(2000, 0.05) == 1901
    low, high = flag_rate_bounds(2000, 1901)
    assert low == pytest.approx(0.039314583099958, abs=1e-12)
    assert high == pytest.approx(0.058232955672718, abs=1e-12)


@pytest.mark.parametrize(
    ("alpha", "n", "p0_high"),
    [
        (0.05, 200, 0.0772),
        (0.05, 1000, 0.0618),
        (0.05, 10_000, 0.0536),
        (0.01, 1000, 0.0157),
        (0.01, 2000, 0.0139),
        (0.01, 10_000, 0.0117),
    ],
)
def test_upper_bounds_of_the_published_table(alpha: float, n: int, p0_high: float) -> None:
    assert flag_rate_bounds(n, conformal_rank(n, alpha))[1] == pytest.approx(p0_high, abs=5e-5)


def test_too_few_images_are_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(RefusedError, match="at least 19"):
        conformal_rank(18, 0.05)
    assert conformal_rank(19, 0.05) == 19


@settings(derandomize=True, deadline=None)
@given(st.integers(20, 3000), st.sampled_from([0.01, 0.05, 0.1, 0.2]))
def test_at_most_alpha_of_the_calibration_scores_lie_above_the_threshold(n: int, alpha: float) -> None:
    if n < 1 / alpha:
        return
    scores = np.random.default_rng(n).normal(size=n)
    threshold, m = conformal_threshold(scores, alpha)
    assert (scores > threshold).sum() == n - m
    assert (n - m) / n <= alpha


def test_clopper_pearson_has_its_textbook_values() -> None:
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 0.3084971), abs=1e-6)
    assert clopper_pearson(10, 10) == pytest.approx((0.6915029, 1.0), abs=1e-6)
    assert clopper_pearson(5, 100) == pytest.approx((0.0164319, 0.1128349), abs=1e-6)
    with pytest.raises(ValueError, match="no data"):
        clopper_pearson(0, 0)


def test_the_promise_says_what_a_small_reference_cannot() -> None:
    assert "Too few to raise alerts" in promise(150, 0.05)
    assert "provisional" in promise(1000, 0.05)
    assert "provisional" not in promise(2000, 0.05)
    assert "score histogram" in promise(999, 0.05)
    assert "score histogram" not in promise(1000, 0.05)


def test_rank_edges_are_order_statistics_and_their_shares_sum_to_one() -> None:
    scores = np.arange(1, 2001, dtype=float)
    edges = rank_edges(scores)
    assert edges.shape == (17,)
    np.testing.assert_array_equal(edges, edge_ranks(2000))
    assert edges[13] == 1901
    assert expected_shares(2000).sum() == pytest.approx(1)


def test_a_score_on_an_edge_belongs_to_the_bin_below_it() -> None:
    edges = np.array([1.0, 2.0])
    np.testing.assert_array_equal(bin_of(np.array([0.5, 1.0, 1.5, 2.0, 2.5]), edges), [0, 0, 1, 1, 2])


def test_fine_edges_leave_room_for_what_is_unusual() -> None:
    edges = fine_edges(np.array([0.0, 5.0, 10.0]))
    assert edges.shape == (255,)
    assert edges[0] > -10
    assert edges[-1] < 20
    assert np.allclose(np.diff(edges), np.diff(edges)[0])
