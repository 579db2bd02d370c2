"""The rate's bets against counts that come in clumps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nbinom

from pipeline.records import Float64s
from pipeline.shift.dispersion import clumping
from pipeline.shift.signals import R_RATE, RateBounds, clumped_bet, rate_bounds, rate_increments


def expectation(bounds: RateBounds, mean: float, phi: float) -> Float64s:
    """E[e^inc] of each component for negative binomial counts of a minute, summed term by term."""
    counts = np.arange(200_000)
    chances = nbinom.pmf(counts, mean / (phi - 1), 1 / phi)
    increments = np.vstack([rate_increments(float(n), 1.0, bounds) for n in counts[chances > 0]])
    with np.errstate(over="ignore"):
        expected: Float64s = (np.exp(increments) * chances[chances > 0, None]).sum(axis=0)
    return expected


def test_no_bet_on_the_rate_pays_on_average_while_clumped_traffic_is_normal_and_the_boldest_is_just_fair() -> None:
    mean, phi = 60.0, 1 + 60 / 0.3  # a negative binomial of shape .3
    fair = expectation(RateBounds(mean, mean, phi, clumped_bet(phi)), mean, phi)
    assert (fair <= 1 + 1e-9).all()
    assert fair[R_RATE == 4] == pytest.approx(1, abs=1e-3)
    assert expectation(RateBounds(mean, mean, phi, phi), mean, phi)[R_RATE == 2] > 1.04


@given(excess=st.floats(1e-3, 1e4))
def test_the_divisor_of_bets_lies_between_phi_and_five_thirds_of_it(excess: float) -> None:
    assert 1 + excess <= clumped_bet(1 + excess) <= 5 / 3 * (1 + excess)


def test_counts_without_clumps_are_bet_on_as_poisson_counts_are() -> None:
    assert clumped_bet(1.0) == 1.0
    assert clumped_bet(1 + 1e-5) == pytest.approx(1 + 1.77e-5, abs=1e-6)
    assert rate_bounds(7200, 120, 1.0).bet == 1.0


def test_clumps_that_outlast_a_tick_count_as_clumps() -> None:
    rng = np.random.default_rng(1)
    n = rng.poisson(np.repeat(rng.choice([30.0, 90.0], 200), 20)).astype(float)
    alone = float(n.var() / n.mean())
    assert clumping(n) == pytest.approx(1 + 20 * (alone - 1), rel=0.05)
    assert clumping(rng.poisson(60.0, 4000).astype(float)) == pytest.approx(1, abs=0.15)
