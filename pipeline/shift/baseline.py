"""Normal traffic, from ticks that a person accepted: flag rates by the hour, dispersion, wandering, volume.

Hours are UTC. Every bound is one that normal traffic stays within, so that the detector's promise
holds through nights, weekends and slow wandering, and not only for the calibration images.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import betaincinv

from pipeline.records import CoverageReference, Float64s, Ints
from pipeline.shift.class_mix import ClassMix
from pipeline.shift.dispersion import clumping, fair_divisors, stream_dispersion, upper_half
from pipeline.shift.hours import (
    HOUR_IMAGES,
    HOUR_US,
    HOURS_OF_DAY,
    HOURS_OF_WEEK,
    full_hours,
    hour_bin,
    hour_of_week,
)
from pipeline.shift.signals import (
    RateBounds,
    clumped_bet,
    histogram_increments,
    histogram_library,
    rate_bounds,
)
from pipeline.shift.threshold import HISTOGRAM_NEEDS

_NEIGHBOURS = 3  # hours to either side that a bin may borrow from
_LEVEL = 0.95
_WANDER = 0.99  # quantile of the accepted hourly rates; a rate that wanders over hours escapes D and the table
DISPERSION_DAYS = 3  # accepted days from which D is known
_WEEKS_FOR_HOURS_OF_WEEK = 4


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """Consecutive accepted ticks of one stream, with those that had no images."""

    starts: Ints  # (T,) microseconds since 1970, UTC
    n: Float64s  # (T,)
    k: Float64s  # (T,) flags
    histograms: Float64s  # (T, 18)


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """What one stream's traffic stays within."""

    high: Float64s  # (48,) flag rate by hour of day, weekdays first; 0 where unknown. Read of segments
    low: Float64s  # (48,); 1 where unknown. Read of all traffic
    d: float
    bets: "HistogramBets | None"  # None where the reference has no histogram
    wander: tuple[float, float] = (1.0, 0.0)  # .01 and .99 quantiles of the hourly flag rates; (1, 0) where unknown


@dataclass(frozen=True, slots=True, eq=False)
class HistogramBets:
    """What the histogram's components pay and are divided by."""

    penalty: Float64s  # (30,) per image
    divisor: Float64s  # (30,) D, or more


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """Normal traffic of a deployment's reference."""

    days: int  # accepted, of 24 hours
    pooled: Normal
    segments: Mapping[str, Normal]
    rates: tuple[RateBounds | None, ...] = (None,) * HOURS_OF_WEEK  # pooled, by hour of week
    classes: ClassMix | None = None
    coverage: CoverageReference | None = field(default=None, repr=False)  # from 999 accepted blocks

    def of(self, segment: str) -> Normal | None:
        """The segment's own; None where it was not accepted."""
        return self.segments.get(segment)

    def with_coverage(self, coverage: CoverageReference | None) -> "Baseline":
        """The same with limits from its own blocks of features: they need its D."""
        return replace(self, coverage=coverage)


def baseline(
    pooled: Accepted,
    segments: Iterable[tuple[str, Accepted]],
    *,
    n_cal: int,
    minutes: float,
    classes: ClassMix | None = None,
) -> Baseline:
    """The baseline of accepted ticks of `minutes` each; segments are taken one after another."""
    model = _by_hour(pooled)
    return Baseline(
        days=round(len(pooled.starts) * minutes * 60_000_000) // (24 * HOUR_US),
        pooled=normal(pooled, model, n_cal),
        segments={name: normal(ticks, model, n_cal) for name, ticks in segments},
        rates=hourly_rates(pooled.starts, pooled.n, minutes),
        classes=classes,
    )


def normal_of_all(pooled: Accepted, n_cal: int) -> Normal:
    """What all traffic stays within."""
    return normal(pooled, _by_hour(pooled), n_cal)


def normal(ticks: Accepted, model: tuple[Float64s, Float64s], n_cal: int) -> Normal:
    """What one stream stays within; `model` is (k, n) by hour bin of all traffic, for hours with few images."""
    own = _by_hour(ticks)
    k, n = _borrowed(*own, *model)
    known = n > 0
    bins = hour_bin(ticks.starts)
    rate = np.divide(k, n, out=np.full(len(n), ticks.k.sum() / max(ticks.n.sum(), 1)), where=known)
    upper = np.bincount(bins, upper_half(ticks.histograms), 48)
    upper_rate = upper / np.maximum(np.bincount(bins, ticks.histograms.sum(axis=1), 48), 1)
    d = stream_dispersion(ticks.n, ticks.k, rate[bins], ticks.histograms, upper_rate[bins])
    least, most = _wandering(ticks, d)
    k, n = _borrowed(*(values / d for values in (*own, *model)))  # of bursts, 500 images say too little
    known = n > 0
    high = np.where(known, betaincinv(k + 1, np.maximum(n - k, 1e-9), _LEVEL), 0.0)
    low = np.where(known & (k > 0), betaincinv(np.maximum(k, 1e-9), n - k + 1, 1 - _LEVEL), 0.0)
    low = np.where(known, low, 1.0)
    return Normal(np.maximum(high, most), np.minimum(low, least), d, _bets(ticks, d, n_cal), (least, most))


def hourly_rates(starts: Ints, n: Float64s, minutes: float) -> tuple[RateBounds | None, ...]:
    """λ^± and φ by hour of week; by hour of day below four weeks. None for hours that were not accepted."""
    weeks = (int(starts[-1]) - int(starts[0])) / (7 * 24 * HOUR_US) if len(starts) else 0
    period = HOURS_OF_WEEK if weeks >= _WEEKS_FOR_HOURS_OF_WEEK - 1e-2 else HOURS_OF_DAY
    hours = hour_of_week(starts) % period
    found: list[RateBounds | None] = []
    for hour in range(period):
        counts = n[hours == hour]
        phi = clumping(counts)
        total = float(counts.sum())
        found.append(rate_bounds(total, len(counts) * minutes, phi, clumped_bet(phi)) if len(counts) else None)
    return tuple(found) * (HOURS_OF_WEEK // period)


def _by_hour(ticks: Accepted) -> tuple[Float64s, Float64s]:
    bins = hour_bin(ticks.starts)
    return np.bincount(bins, ticks.k, 48).astype(np.float64), np.bincount(bins, ticks.n, 48).astype(np.float64)


def _borrowed(k: Float64s, n: Float64s, model_k: Float64s, model_n: Float64s) -> tuple[Float64s, Float64s]:
    """(k, n) of each bin from 500 images at least: its own, with neighbouring hours, or the model's; else (0, 0)."""
    found_k, found_n = np.zeros(48), np.zeros(48)
    for of_k, of_n in ((k, n), (model_k, model_n)):
        for reach in range(_NEIGHBOURS + 1):
            wide_k, wide_n = _widened(of_k, reach), _widened(of_n, reach)
            take = (found_n == 0) & (wide_n >= HOUR_IMAGES)
            found_k[take], found_n[take] = wide_k[take], wide_n[take]
    return found_k, found_n


def _widened(values: Float64s, reach: int) -> Float64s:
    """Sums over the hours within reach, around the clock, of weekdays and weekends apart."""
    days = values.reshape(2, HOURS_OF_DAY)
    return sum((np.roll(days, shift, axis=1) for shift in range(-reach, reach + 1)), np.zeros_like(days)).reshape(-1)


def _wandering(ticks: Accepted, d: float) -> tuple[float, float]:
    """The .01 and .99 quantiles of the accepted hourly flag rates; (1, 0) where no hour had enough images."""
    groups = full_hours(ticks.starts, ticks.n, d)
    full = groups >= 0
    if not full.any():
        return 1.0, 0.0
    rates = np.bincount(groups[full], ticks.k[full]) / np.bincount(groups[full], ticks.n[full])
    return float(np.quantile(rates, 1 - _WANDER)), float(np.quantile(rates, _WANDER))


def _bets(ticks: Accepted, d: float, n_cal: int) -> HistogramBets | None:
    if n_cal < HISTOGRAM_NEEDS:
        return None
    penalty, library = _penalty(ticks, d, n_cal), histogram_library(n_cal)
    undivided = histogram_increments(ticks.histograms, np.ones(1), library, penalty)
    return HistogramBets(penalty, fair_divisors(undivided, d))


def _penalty(ticks: Accepted, d: float, n_cal: int) -> Float64s:
    """What each component of the histogram pays per image: log of the most that E[g_j] is in normal traffic, (30,).

    At least the reference's own penalty; else the largest hourly mean of g_j, with the sampling noise taken out
    of the spread of these means: 30 components would pay for chance alone. A departure from the detector's
    specification, which has no histogram of accepted traffic: against the calibration images alone every night
    whose scores differ from the day's is a shift.
    """
    library = histogram_library(n_cal)
    groups = full_hours(ticks.starts, ticks.n, d)
    full = groups >= 0
    counts = np.stack([np.bincount(groups[full], ticks.histograms[full, b]) for b in range(ticks.histograms.shape[1])])
    if not counts.size or not counts.sum(axis=0).all():
        return library.penalty
    g = np.exp(library.log_ratios)
    n = counts.sum(axis=0)
    means = g @ counts / n
    noise = ((g**2 @ counts / n - means**2) * d / n).mean(axis=1)
    spread = means.var(axis=1)
    real = np.sqrt(np.clip(1 - np.divide(noise, spread, out=np.ones_like(noise), where=spread > 0), 0, 1))
    centre = means.mean(axis=1)
    most = centre + real * (means.max(axis=1) - centre)
    penalty: Float64s = np.maximum(library.penalty, np.log(most))
    return penalty
