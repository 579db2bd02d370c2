import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import RefusedError
from pipeline.scoring.matched_null import Compared, MatchedNull

MODES = 6 / np.sqrt(2) * np.eye(16)[:5]


def traffic(seed: int, n: int, modes: int = 4, novel: float = 0.0) -> Tensor:
    """Of several modes 6 apart; a share of a fifth one."""
    rng = np.random.default_rng(seed)
    mode = np.where(rng.random(n) < novel, 4, rng.integers(0, modes, n))
    return torch.from_numpy(MODES[mode] + rng.normal(size=(n, 16)))


@pytest.fixture(scope="module")
def null() -> MatchedNull:
    return MatchedNull(traffic(0, 1000), 300, rng=np.random.default_rng(0))


def z(made: Compared) -> tuple[float, float, float]:
    return made.p_precision.z, made.p_recall.z, made.p_recall_in_support.z


def test_healthy_windows_stay_within_four_spreads(null: MatchedNull) -> None:
    found = np.array([z(null.compare(traffic(100 + i, 300))) for i in range(20)])
    assert np.abs(found).max() < 4


def test_a_lost_mode_lowers_recall_alone_and_a_new_one_precision_alone(null: MatchedNull) -> None:
    lost, novel = null.compare(traffic(1, 300, modes=3)), null.compare(traffic(2, 300, novel=0.2))
    assert lost.p_recall_in_support.z < -4 < lost.p_precision.z
    assert novel.p_precision.z < -4 < novel.p_recall_in_support.z


def test_a_lost_mode_is_found_behind_far_outliers_in_support(null: MatchedNull) -> None:
    rows = traffic(1, 300, modes=3)
    rows[:15] = 100 * torch.from_numpy(np.random.default_rng(5).normal(size=(15, 16)))
    made = null.compare(rows)
    assert made.p_recall.z > 4
    assert made.p_recall_in_support.z < -4


def test_one_frame_with_and_without_noise_covers_nothing(null: MatchedNull) -> None:
    for noise in (0.0, 1e-3):
        rows = traffic(3, 1) + noise * traffic(4, 300)
        assert null.compare(rows.expand(300, 16).contiguous()).p_recall_in_support.z < -10


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (
        MatchedNull(traffic(0, 400), 300, rng=np.random.default_rng(7)).compare(traffic(1, 700)) for _ in range(2)
    )
    assert z(first) == z(second)
    assert first.windows == 3  # of 200: half of the reference


def test_the_class_that_is_lost_is_the_one_whose_coverage_falls() -> None:
    reference = traffic(0, 1000)
    null = MatchedNull(reference, 300, rng=np.random.default_rng(0))
    nearest = torch.cdist(reference, torch.from_numpy(MODES)).argmin(1).numpy()
    coverage = null.compare(traffic(1, 300, modes=3)).coverage
    figures = [null.of_group(coverage, np.flatnonzero(nearest == mode)) for mode in range(4)]
    shares = [figure.value / figure.mean for figure in figures if figure is not None]
    assert shares[3] < 0.1
    assert min(shares[:3]) > 0.9
    assert null.of_group(coverage, np.arange(10)) is None


def test_a_mean_support_is_judged_by_how_many_images_it_is_of(null: MatchedNull) -> None:
    few, many = null.of_mean_support(0.7, 20), null.of_mean_support(0.7, 2000)
    assert few.mean == many.mean
    assert many.z < few.z < 0
    assert few.spread == pytest.approx(many.spread * np.sqrt((1 / 20 + 1 / 1000) / (1 / 2000 + 1 / 1000)))


def test_a_reference_too_small_for_windows_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"windows of 5, 6 are\s+needed"):
        MatchedNull(traffic(0, 10), 300, rng=np.random.default_rng(0))
