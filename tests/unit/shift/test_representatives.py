"""Which rows of a window represent what is different about it."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import Float64s
from pipeline.shift.representatives import FEWEST, TWICE, greedy, representatives


def rows(n: int, seed: int, *, centre: float = 0.0, d: int = 8) -> Float64s:
    return centre + np.random.default_rng(seed).normal(0, 1, (n, d))


def found(reference: Float64s, window: Float64s, most: int = 6) -> list[int]:
    return [one.row for one in representatives(reference, window, most, rng=np.random.default_rng(0))]


@pytest.mark.parametrize("new", [15, 60, 300])
def test_what_the_reference_does_not_hold_represents_the_window_and_its_share_is_told(new: int) -> None:
    window = np.concatenate([rows(300 - new, 1), rows(new, 2, centre=3.0)])
    chosen = representatives(rows(600, 3), window, 6, rng=np.random.default_rng(0))
    assert 1 <= len(chosen) <= 6
    assert all(one.row >= 300 - new for one in chosen)
    assert all(TWICE <= one.likelihood <= 1 for one in chosen)
    assert sum(one.share for one in chosen) == pytest.approx(new / 300, abs=0.05)


def test_of_two_changes_both_are_represented_before_one_of_them_twice() -> None:
    window = np.concatenate([rows(200, 1), rows(60, 2, centre=4.0), rows(20, 3, centre=-4.0)])
    first, second, *_ = found(rows(400, 4), window)
    assert 200 <= first < 260 <= second


@pytest.mark.parametrize("seed", range(5))
def test_without_a_change_hardly_an_image_is_thought_to_be_twice_as_frequent(seed: int) -> None:
    chosen = representatives(rows(600, seed), rows(300, 100 + seed), 6, rng=np.random.default_rng(seed))
    assert sum(one.share for one in chosen) <= 0.03


def test_the_likelihood_comes_near_to_that_of_two_known_densities() -> None:
    """π = 1 / (1 + e^−(2x − 2)) of N(0, 1) and N(2, 1)."""
    window = rows(2_000, 1, centre=2.0, d=1)
    for one in representatives(rows(2_000, 2, d=1), window, 6, rng=np.random.default_rng(0)):
        assert one.likelihood == pytest.approx(1 / (1 + np.exp(2 - 2 * window[one.row, 0])), abs=0.1)


def test_moved_turned_and_scaled_features_choose_the_same_images() -> None:
    reference, window = rows(300, 1), np.concatenate([rows(150, 2), rows(50, 3, centre=3.0)])
    turn = np.linalg.qr(rows(8, 9))[0]
    assert found(7 * reference @ turn + 40, 7 * window @ turn + 40) == found(reference, window)


def test_the_nearest_of_the_reference_is_the_nearest() -> None:
    reference, window = rows(100, 1), rows(50, 2, centre=2.0)
    for one in representatives(reference, window, 6, rng=np.random.default_rng(0)):
        assert one.nearest == np.linalg.norm(reference - window[one.row], axis=1).argmin()


def test_too_few_rows_and_equal_ones_say_nothing() -> None:
    assert found(rows(FEWEST - 1, 1), rows(50, 2, centre=9)) == []
    assert found(rows(50, 1), rows(FEWEST - 1, 2, centre=9)) == []
    assert found(np.ones((50, 3)), np.ones((50, 3))) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 4))
def test_greedy_comes_to_63_percent_of_the_best_choice_and_a_further_one_never_costs(
    seed: int, m: int, most: int
) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.normal(size=(m, 2)), rng.random(m)
    alike = np.exp(-((points[:, None] - points) ** 2).sum(axis=2))

    def value(chosen: tuple[int, ...]) -> float:
        return float(weights @ alike[:, list(chosen)].max(axis=1))

    chosen = tuple(int(one) for one in greedy(alike, weights, most))
    assert len(set(chosen)) == len(chosen) == min(most, m)
    best = max(value(one) for one in combinations(range(m), min(most, m)))
    assert value(chosen) >= (1 - 1 / np.e) * best - 1e-12
    assert [value(chosen[: i + 1]) for i in range(len(chosen))] == sorted(
        value(chosen[: i + 1]) for i in range(len(chosen))
    )
