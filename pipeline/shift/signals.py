"""What the signals beside the OOD fraction bet on: their components, weights and increments.

Each increment is a log likelihood ratio with E[e^inc | past] <= 1 while the traffic is within what the
reference allows; what is estimated enters by its bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, gammaincinv

from pipeline.records import CoverageReference, Float64s, Ints
from pipeline.shift.auxiliary import Signal, signal
from pipeline.shift.budget import Budget
from pipeline.shift.evidence import flag_increments
from pipeline.shift.histogram import BINS, edge_ranks, expected_shares
from pipeline.shift.ladder import R_DOWN, R_UP
from pipeline.shift.threshold import clopper_pearson_bounds

#: Beta cdfs that tilt the scores: up (a, 1) and down (1, a), then to both ends or to the middle (a, a).
_ONE_SIDED = (1.5, 2.5, 5.0, 12.0)
_TWO_SIDED = (0.35, 0.6, 2.0, 5.0)
_TILTS = [(a, 1.0) for a in _ONE_SIDED] + [(1.0, a) for a in _ONE_SIDED] + [(a, a) for a in _TWO_SIDED]
_TILT_WEIGHT, _SPIKE_WEIGHT = 0.7, 0.3  # of all tilts, of all spikes
_TILT_FLOOR, _SPIKE_FLOOR = 0.02, 0.3  # what an alternative leaves to the reference's own shares

R_CLASS: Float64s = np.array([0.2, 0.5, 2.0, 5.0])
MOST_CLASSES = 50
_CLASS_MISS = 0.05  # over all classes, split evenly
_CLASS_WANDER = 0.99  # quantile of the accepted hourly shares
R_RATE: Float64s = np.array([0.1, 0.3, 0.5, 2.0, 4.0])


LOG_WEIGHTS_DOWN: Float64s = np.full(len(R_DOWN), -log(len(R_DOWN)))
COVERAGE_LOG_WEIGHTS: Float64s = np.full(3 * len(R_UP), -log(3 * len(R_UP)))
RATE_LOG_WEIGHTS: Float64s = np.full(len(R_RATE), -log(len(R_RATE)))


@dataclass(frozen=True, slots=True, eq=False)
class HistogramLibrary:
    """The alternatives to the reference's 18 bins: J = 12 tilts and 18 spikes."""

    log_ratios: Float64s  # (J, 18): log g_jb
    penalty: Float64s  # (J,): per image, for bins that n_cal images only estimate
    log_weights: Float64s  # (J,)


def histogram_library(n_cal: int) -> HistogramLibrary:
    """Alternatives over the bins of a reference of n_cal images.

    Tilt: g_b = .98·(F(v_{b+1}) − F(v_b))/p_b + .02 with a Beta cdf F; spike at s: g_b = .7·1{b=s}/p_b + .3.
    The penalty is one standard error of the estimated mean of g: log1p(√(Σ_b p_b(g_b − 1)²/n_cal)).
    """
    p = expected_shares(n_cal)
    v = np.concatenate([[0.0], edge_ranks(n_cal) / (n_cal + 1), [1.0]])
    tilts = [(1 - _TILT_FLOOR) * np.diff(betainc(a, b, v)) / p + _TILT_FLOOR for a, b in _TILTS]
    spikes = (1 - _SPIKE_FLOOR) * np.eye(BINS) / p + _SPIKE_FLOOR
    g = np.vstack([*tilts, spikes])
    penalty = np.log1p(np.sqrt((p * (g - 1) ** 2).sum(axis=1) / n_cal))
    weights = np.repeat([_TILT_WEIGHT / len(_TILTS), _SPIKE_WEIGHT / BINS], [len(_TILTS), BINS])
    return HistogramLibrary(np.log(g), penalty, np.log(weights))


def histogram_increments(counts: Float64s, d: Float64s, library: HistogramLibrary, penalty: Float64s) -> Float64s:
    """inc_j = Σ_b c_b·(log g_jb − penalty_j)/D, (S, J).

    Args:
        counts: (S, 18).
        d: (S,) dispersion, or (S, J): more where a bet needs more to be fair.
        penalty: (J,) or (S, J): the library's, or more where normal traffic needs it.
    """
    increments: Float64s = -counts.sum(axis=1)[:, None] * penalty
    for b in range(BINS):  # in this order, not BLAS's: a stream's sum must not depend on its neighbours
        increments += counts[:, b, None] * library.log_ratios[:, b]
    return increments / d.reshape(len(d), -1)


@dataclass(frozen=True, slots=True, eq=False)
class ClassBounds:
    """The most frequent classes of normal traffic, and bounds of their shares; the rest is one more class."""

    classes: Ints  # (C',) or, with a rest, (C' − 1,): indices
    low: Float64s  # (C',)
    high: Float64s  # (C',)
    rest: bool


def class_bounds(counts: Ints, hours: Float64s | None = None) -> ClassBounds:
    """Clopper-Pearson bounds π^± of the 50 most frequent classes and the rest, one-sided 1 − .05/(2C').

    Args:
        counts: (K,).
        hours: (H, K) of accepted hours: the bounds reach to the .01 and .99 quantiles of the hourly shares, too,
            or every night whose classes differ from the day's would be a shift. A departure from the detector's
            specification, which allows flags to wander so, not classes.
    """
    order = np.argsort(-counts, kind="stable")
    rest = len(counts) > MOST_CLASSES
    classes = np.sort(order[:MOST_CLASSES])
    k = counts[classes].astype(np.float64)
    n = float(counts.sum())
    if rest:
        k = np.append(k, n - k.sum())
    low, high = clopper_pearson_bounds(k, np.full(len(k), n), level=1 - _CLASS_MISS / len(k))
    if hours is not None and len(hours):
        shares = hours[:, classes] / hours.sum(axis=1, keepdims=True)
        if rest:
            shares = np.column_stack([shares, 1 - shares.sum(axis=1)])
        low = np.minimum(low, np.quantile(shares, 1 - _CLASS_WANDER, axis=0))
        high = np.maximum(high, np.quantile(shares, _CLASS_WANDER, axis=0))
    return ClassBounds(classes, low, high, rest)


def class_increments(counts: Float64s, d: float | Float64s, *bounds: ClassBounds) -> Float64s:
    """inc = (k_y·log r − n·log1p((r − 1)·π_y^±))/D_C, (R, 4C'), class by class: π⁺ for r > 1, π⁻ for r < 1.

    Args:
        counts: (R, K), or (K,) of one deployment; d: (R,) or one for all.
        bounds: one a deployment.
    """
    counts = counts.reshape(len(bounds), -1)
    n = counts.sum(axis=1, keepdims=True)
    k = np.stack([of_one[bound.classes] for of_one, bound in zip(counts, bounds, strict=True)])
    if bounds[0].rest:
        k = np.append(k, n - k.sum(axis=1, keepdims=True), axis=1)
    low, high = (np.stack([getattr(bound, name) for bound in bounds])[:, :, None] for name in ("low", "high"))
    share = np.where(R_CLASS > 1, high, low)
    increments = k[:, :, None] * np.log(R_CLASS) - n[:, :, None] * np.log1p((R_CLASS - 1) * share)
    divided: Float64s = increments / np.reshape(d, (-1, 1, 1))
    return divided.reshape(len(bounds), -1)


def class_log_weights(bounds: ClassBounds) -> Float64s:
    """Equal weights of the 4C' components."""
    count = len(R_CLASS) * len(bounds.low)
    return np.full(count, -log(count))


def coverage_increments(flags: Float64s, q: float) -> Float64s:
    """inc of the three flags of one block, (1, 18), flag by flag; q bounds the probability of each."""
    ones = np.ones(len(flags))
    return flag_increments(flags, ones, q * ones, R_UP).reshape(1, -1)


@dataclass(frozen=True, slots=True)
class RateBounds:
    """What normal traffic brings at an hour: images a minute, at least and at most; φ is its variance/mean."""

    low: float
    high: float
    phi: float
    bet: float  # what bets on more traffic are divided by: φ, or more where images come in clumps


def rate_bounds(images: float, minutes: float, phi: float, bet: float | None = None) -> RateBounds:
    """λ^± of x images in H baseline minutes: φ·Gamma⁻¹(.05; x/φ)/H and φ·Gamma⁻¹(.95; x/φ + 1)/H."""
    low = float(gammaincinv(images / phi, 0.05)) if images > 0 else 0.0
    high = float(gammaincinv(images / phi + 1, 0.95))
    return RateBounds(phi * low / minutes, phi * high / minutes, phi, phi if bet is None else bet)


def clumped_bet(phi: float) -> float:
    """The divisor β >= φ with which E[e^inc] <= 1 for counts whose tails are as heavy as clumps make them.

    n images of mean λ and variance φλ, negative binomial: E[r^(n/β)] = (1 − (φ − 1)(r^(1/β) − 1))^(−λ/(φ − 1)), and
    e^((r − 1)λ/β) has to be as much; λ cancels. By convexity the same holds for every mixture of Poisson counts whose
    rates are spread no more than a Gamma's. β = φ does not do for r > 1: with φ = 201, of a negative binomial of
    shape .3, the expectation for r = 4 does not even exist. β tends to 1 at φ = 1 and to 1.66·φ; r < 1 needs no more
    than φ. A departure from the detector's specification, which divides by φ.
    """
    excess, r = phi - 1.0, float(R_RATE.max())
    if excess < 1e-6:
        return phi

    def too_much(bet: float) -> float:
        rest = 1 - excess * (r ** (1 / bet) - 1)
        return (inf if rest <= 0 else -log(rest) / excess) - (r - 1) / bet

    return float(brentq(lambda bet: min(too_much(bet), 1.0), phi, 2 * phi))


def rate_increments(n: float | Float64s, minutes: float, *bounds: RateBounds) -> Float64s:
    """inc = (n·log r − (r − 1)·λΔ)/φ, (R, 5): λ⁻ for r < 1, λ⁺ and β for r > 1; one n and bound a deployment."""
    names = "low", "high", "phi", "bet"
    low, high, phi, bet = (np.array([[getattr(bound, name)] for bound in bounds]) for name in names)
    expected = np.where(R_RATE > 1, high, low) * minutes
    divisor = np.where(R_RATE > 1, bet, phi)
    increments: Float64s = (np.reshape(n, (-1, 1)) * np.log(R_RATE) - (R_RATE - 1) * expected) / divisor
    return increments


def silence_limit(bounds: RateBounds, mean_minutes: float, share: float) -> float:
    """Expected images (over φ) without one after which a stream is silent: max(3, log(λ⁻A/(φπ)))."""
    if bounds.low <= 0:
        return float("inf")
    return max(3.0, log(bounds.low * mean_minutes / (bounds.phi * share)))


def signals_of(
    histogram: HistogramLibrary | None,
    classes: ClassBounds | None,
    coverage: CoverageReference | None,
    budget: Budget,
    *,
    rate: bool,
) -> dict[str, Signal]:
    """The auxiliary signals that can be watched, without streams yet."""
    tilts = [f"Beta({a:g}, {b:g})" for a, b in _TILTS]
    weights_and_names: dict[str, tuple[Float64s, Sequence[str]]] = {}
    if histogram is not None:
        weights_and_names["histogram"] = histogram.log_weights, [*tilts, *(f"bin {b}" for b in range(BINS))]
    weights_and_names["low"] = LOG_WEIGHTS_DOWN, _names(["odds"], R_DOWN)
    if classes is not None:
        of = [f"class {y}" for y in classes.classes.tolist()] + ["other classes"] * classes.rest
        weights_and_names["classes"] = class_log_weights(classes), _names(of, R_CLASS)
    if coverage is not None:
        weights_and_names["coverage"] = COVERAGE_LOG_WEIGHTS, _names(["moved", "narrower", "wider"], R_UP)
    if rate:
        weights_and_names["rate"] = RATE_LOG_WEIGHTS, _names(["rate"], R_RATE)
    return {
        name: signal(log_weights, tuple(names), budget.log_threshold(name))
        for name, (log_weights, names) in weights_and_names.items()
    }


def _names(of: Sequence[str], ratios: Float64s) -> list[str]:
    return [f"{thing} ×{ratio:.3g}" for thing in of for ratio in ratios.tolist()]
