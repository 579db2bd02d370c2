import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shift.differences import (
    difference_of_shapes,
    difference_of_shares,
    least_difference_of_shapes,
    least_difference_of_shares,
    select,
)


def pair(k: tuple[float, float], n: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(k)[:, None], np.array(n)[:, None]


def test_a_share_of_none_against_many_is_told_by_the_tail_of_two_terms() -> None:
    p = float(difference_of_shares(*pair((0, 100), (100, 100)), 0.0)[0])
    x = 200 * np.log(2)  # both truths at a half: 100·KL(0‖½) + 100·KL(1‖½)
    assert p == pytest.approx(2 * (1 + x) * np.exp(-x))


@given(
    st.tuples(st.integers(0, 400), st.integers(0, 400)),
    st.tuples(st.integers(400, 9000), st.integers(400, 9000)),
    st.floats(0, 0.05),
)
def test_what_is_significant_is_what_the_bounds_at_its_level_leave_apart(
    k: tuple[int, int], n: tuple[int, int], floor: float
) -> None:
    counts = pair(k, n)
    p = float(difference_of_shares(*counts, floor)[0])
    if 1e-12 < p < 1:
        assert float(least_difference_of_shares(*counts, p)[0]) == pytest.approx(floor, abs=1e-6)


def test_shapes_too() -> None:
    counts, n = np.array([[500.0, 400, 100], [300.0, 400, 300]]), np.array([1000.0, 1000.0])
    p = difference_of_shapes(counts, n, 0.05)
    assert 0 < p < 0.01
    assert least_difference_of_shapes(counts, n, p) == pytest.approx(0.05)


def test_what_differs_by_less_than_the_floor_is_never_significant_however_many_images_there_are() -> None:
    n = (1e9, 1e9)
    assert difference_of_shares(*pair((0.02e9, 0.029e9), n), 0.01)[0] == 1.0
    assert difference_of_shares(*pair((0.02e9, 0.031e9), n), 0.01)[0] < 1e-12
    counts = np.array([[0.5e9, 0.5e9], [0.495e9, 0.505e9]])
    assert difference_of_shapes(counts, np.array(n), 0.01) == 1.0


def test_a_true_difference_at_the_floor_is_called_more_less_often_than_the_level_says() -> None:
    rng = np.random.default_rng(5)
    n = np.full((2, 20_000), 300.0)
    k = np.stack([rng.binomial(300, 0.10, 20_000), rng.binomial(300, 0.15, 20_000)]).astype(float)
    p = difference_of_shares(k, n, 0.05)
    assert 0 < (p <= 0.05).mean() <= 0.05


def test_distribution_functions_of_the_same_images_are_called_apart_less_often_than_the_level_says() -> None:
    rng = np.random.default_rng(6)
    n = np.array([400.0, 900.0])
    even = np.full(16, 1 / 16)
    drawn = (np.array([rng.multinomial(400, even), rng.multinomial(900, even)], np.float64) for _ in range(2_000))
    p = [difference_of_shapes(counts, n, 0.0) for counts in drawn]
    assert (np.array(p) <= 0.05).mean() <= 0.05


def test_of_many_alike_nothing_is_kept_and_of_one_apart_that_one() -> None:
    assert not select(np.linspace(0.02, 1, 50), 0.05).kept.any()
    found = select(np.array([0.9, 1e-6, 0.5]), 0.05)
    assert found.kept.tolist() == [False, True, False]
    assert found.level == pytest.approx(0.05 / (3 * (1 + 1 / 2 + 1 / 3)))


def test_nothing_of_nothing() -> None:
    assert not len(select(np.zeros(0), 0.05).kept)
