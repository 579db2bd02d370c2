"""Made-up traffic has the rates, the moves and the damage that were asked for."""

import numpy as np
import pytest
from scipy.stats import beta, kstest

from pipeline.shift.histogram import BINS, expected_shares
from pipeline.shift.threshold import conformal_rank, flag_rate_bounds
from pipeline.simulation.damage import Change, frozen, gaussian, measured, unusual, weight_for
from pipeline.simulation.population import Population, draw_population
from pipeline.simulation.traffic import Source, Traffic


def population(size: int = 8, n: int = 2_000, alpha: float = 0.05) -> Population:
    return draw_population(n, alpha, size, np.random.default_rng(3))


def take(traffic: Traffic, ticks: int, *changes: Change, of: Population | None = None, seed: int = 5) -> np.ndarray:
    """(T, S, R, C) counts."""
    source = Source(traffic, of or population(), np.random.default_rng(seed))
    parts = [source.take(min(500, ticks - at), changes).cells for at in range(0, ticks, 500)]
    cells: np.ndarray = np.concatenate(parts)
    return cells


def flag_share(cells: np.ndarray, of: Population) -> np.ndarray:
    """(R,)."""
    share: np.ndarray = cells[..., of.flagged].sum(axis=(0, 1, 3)) / cells.sum(axis=(0, 1, 3))
    return share


def test_true_flag_rates_are_those_of_conformal_thresholds() -> None:
    rates = draw_population(500, 0.05, 4_000, np.random.default_rng(1)).flag_rate
    m = conformal_rank(500, 0.05)
    assert kstest(rates, beta(501 - m, m).cdf).pvalue > 0.01


@pytest.mark.parametrize(("n", "alpha"), [(2_000, 0.05), (2_000, 0.03), (200, 0.05), (10_000, 0.01)])
def test_cells_are_the_bins_of_which_the_threshold_may_cut_one(n: int, alpha: float) -> None:
    made = draw_population(n, alpha, 400, np.random.default_rng(2))
    assert np.all(np.diff(made.cuts, axis=1) > 0)
    np.testing.assert_allclose(made.shares.sum(axis=1), 1)
    assert set(made.bins) == set(range(BINS))
    assert len(made.bins) - BINS == (0 if alpha in {0.05, 0.01} else 1)
    by_bin = np.array([made.shares[:, made.bins == b].sum(axis=1).mean() for b in range(BINS)])
    np.testing.assert_allclose(by_bin, expected_shares(n), atol=4 * np.sqrt(0.1 / n / 400))


def test_at_the_bound_every_deployment_has_it_exactly() -> None:
    made = draw_population(2_000, 0.05, 5, np.random.default_rng(0), at_bound=True)
    np.testing.assert_allclose(made.flag_rate, flag_rate_bounds(2_000, 1_901)[1])


def test_the_same_seed_gives_the_same_counts_however_they_are_taken() -> None:
    traffic = Traffic(segments=3, wander_hours=2, wander_sd=0.3, classes=4)
    first, again = take(traffic, 60), take(traffic, 60)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, take(traffic, 60, seed=6))


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic(),
        Traffic(segments=4, burst=10),
        Traffic(images_per_minute=20, shape=0.3),
        Traffic(memory=0.5),
        Traffic(night=0.2),
        Traffic(images_per_minute=0.5, minutes=15),
    ],
)
def test_over_a_day_traffic_and_flags_are_as_frequent_as_was_asked(traffic: Traffic) -> None:
    made = population()
    cells = take(traffic, round(1440 / traffic.minutes), of=made)
    images = cells.sum(axis=(0, 1, 3))
    expected = 1440 * traffic.images_per_minute
    np.testing.assert_allclose(images, expected, rtol=0.25 if traffic.shape else 0.15)
    assert images.mean() == pytest.approx(expected, rel=0.1)
    counted = flag_share(cells, made)
    correlated = traffic.burst * (1 + traffic.memory) / (1 - traffic.memory)
    error = np.sqrt(made.flag_rate * (1 - made.flag_rate) * correlated / images)
    assert np.all(np.abs(counted - made.flag_rate) < 4 * error)


def test_bursts_share_a_cell_and_chains_repeat_their_predecessor() -> None:
    assert not np.any(take(Traffic(burst=10), 200) % 10)
    made = population()
    counts = take(Traffic(memory=0.9), 3_000, of=made)[:, 0]
    n, k = counts.sum(axis=2), counts[..., made.flagged].sum(axis=2)
    spread = ((k - n * made.flag_rate) ** 2).sum(axis=0) / (n * made.flag_rate * (1 - made.flag_rate)).sum(axis=0)
    assert spread.mean() == pytest.approx((1 + 0.9) / (1 - 0.9), rel=0.2)  # less than 19: minutes end


def test_nights_are_quiet_and_score_higher() -> None:
    made = population()
    cells = take(Traffic(night=0.1, rate_by_day=0.6, rate_by_night=1.6), 1440, of=made)
    night, noon = cells[90:150], cells[810:870]
    assert night.sum() / noon.sum() == pytest.approx(0.1, rel=0.05)
    np.testing.assert_allclose(flag_share(noon, made), 0.6 * made.flag_rate, rtol=0.2)
    assert flag_share(night, made).mean() == pytest.approx(1.6 * made.flag_rate.mean(), rel=0.1)


def test_a_wandering_rate_has_its_mean_its_spread_and_its_memory() -> None:
    traffic = Traffic(images_per_minute=6_000, wander_hours=1, wander_sd=0.3)
    made = population(60)
    cells = take(traffic, 1440, of=made)[:, 0]
    log_rate = np.log(cells[..., made.flagged].sum(axis=2) / cells.sum(axis=2))
    assert log_rate.std(axis=1).mean() == pytest.approx(0.3, rel=0.15)
    away = log_rate - log_rate.mean()
    assert (away[60:] * away[:-60]).mean() / (away**2).mean() == pytest.approx(np.exp(-1), abs=0.12)
    assert np.exp(log_rate).mean() == pytest.approx(made.flag_rate.mean(), rel=0.03)


def test_a_change_replaces_its_share_of_its_segments_while_it_lasts() -> None:
    made = population()
    cells = unusual(made)
    change = Change(cells, 100, weight_for(made, cells, 0.4), end=200, segments=[1])
    counts = take(Traffic(segments=2, images_per_minute=600), 300, change, of=made)
    assert np.all(np.abs(flag_share(counts[100:200, 1:], made) - 0.4) < 0.015)
    for part in (counts[:100], counts[200:], counts[:, :1]):
        np.testing.assert_allclose(flag_share(part, made), made.flag_rate, atol=0.008)


def test_a_ramp_climbs_to_its_last_weight_and_stays() -> None:
    change = Change(np.zeros((1, 2)), 10, np.linspace(0, 0.5, 11)[:, None])
    weights = change.weight(np.array([0.0, 9, 10, 15, 20, 500]))
    np.testing.assert_allclose(weights[:, 0], [0, 0, 0, 0.25, 0.5, 0.5])


def test_damage_has_the_cells_that_were_measured() -> None:
    made = population()
    assert frozen(made, np.random.default_rng(0)).sum(axis=1).tolist() == [1] * len(made)
    np.testing.assert_allclose(gaussian(made, 0.0), made.shares, atol=1e-12)
    assert np.all(gaussian(made, -1)[:, made.flagged].sum(axis=1) < 0.01)
    normal = expected_shares(2_000)
    same = measured(made, normal, normal, 0.05)
    np.testing.assert_allclose(same[0], normal, atol=1e-12)
    cut = population(n=2_000, alpha=0.03)
    moved = np.roll(normal, 1)
    cells = measured(cut, moved, normal, 0.045)
    np.testing.assert_allclose(cells[0, cut.flagged].sum(), 0.045, atol=1e-9)
    np.testing.assert_allclose(np.bincount(cut.bins, cells[0]), moved, atol=1e-12)
