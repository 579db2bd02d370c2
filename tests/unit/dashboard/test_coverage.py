"""What a page says of coverage, held against the exact figures."""

import numpy as np
import pytest
import torch

from dashboard.coverage import MOST_ROWS, covered, radius, supports, usual
from pipeline.scoring.matched_null import MatchedNull
from pipeline.scoring.precision_recall import precision_recall


def rows(n: int, *, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.eye(4, 5)[rng.integers(4, size=n)] * 8 + rng.normal(shift, 1, (n, 5))


def test_supports_are_those_of_the_exact_computation() -> None:
    x, y = rows(300, seed=1), rows(200, seed=2, shift=0.5)
    exact = precision_recall(torch.from_numpy(x), torch.from_numpy(y))
    assert radius(x) == pytest.approx(exact.radius_reference, rel=1e-9)
    assert supports(y, x, radius(x)) == pytest.approx(exact.support.numpy(), abs=1e-7)


def test_what_is_usual_is_what_the_report_compares_with() -> None:
    x = rows(400, seed=3)
    found, null = usual(x), MatchedNull(torch.from_numpy(x), 200, rng=np.random.default_rng(0))
    assert found is not None
    figure = null.of_mean_support(0.5, 150)
    assert figure is not None
    assert found.mean == pytest.approx(figure.mean, abs=0.01)
    assert found.z(0.5, 150) == pytest.approx(figure.z, rel=0.1)


def test_images_of_a_class_that_is_gone_are_the_least_covered() -> None:
    rng = np.random.default_rng(4)
    classes = rng.integers(4, size=400)
    x = np.eye(4, 5)[classes] * 8 + rng.normal(0, 1, (400, 5))
    shown = rng.integers(3, size=MOST_ROWS)
    y = np.eye(4, 5)[shown] * 8 + rng.normal(0, 1, (MOST_ROWS, 5))
    found = covered(x, y, rng=rng)
    assert found is not None
    assert (classes[found.least()[:60]] == 3).mean() == 1.0
    assert found.now[classes == 3].mean() < 0.05
    assert found.normally[classes == 3].mean() > 0.5


def test_too_few_rows_and_equal_ones_say_nothing() -> None:
    assert usual(rows(20, seed=5)) is None
    assert usual(np.ones((100, 3))) is None
    assert covered(rows(100, seed=6), rows(4, seed=7), rng=np.random.default_rng(0)) is None
    assert covered(np.ones((100, 3)), rows(100, seed=7)[:, :3], rng=np.random.default_rng(0)) is None
