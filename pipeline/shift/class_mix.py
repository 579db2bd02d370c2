"""The class mix of accepted traffic: bounds that it stays within, by night as by day, and its dispersion."""

from dataclasses import dataclass

import numpy as np

from pipeline.records import Float64s, Ints
from pipeline.shift.dispersion import dispersion
from pipeline.shift.hours import HOUR_US, HOURS_OF_DAY, full_hours
from pipeline.shift.signals import ClassBounds, class_bounds

_FREQUENT = 0.05  # share of traffic from which a class tells of dispersion


@dataclass(frozen=True, slots=True, eq=False)
class ClassHours:
    """Accepted images by predicted class and clock hour; hours without images may be missing."""

    starts: Ints  # (H,) microseconds since 1970, UTC
    counts: Ints  # (H, K)

    @property
    def frequent(self) -> Ints:
        """(F,) indices of the classes with at least 5 % of all images."""
        totals = self.counts.sum(axis=0)
        return np.flatnonzero(totals >= _FREQUENT * max(totals.sum(), 1))


@dataclass(frozen=True, slots=True, eq=False)
class ClassMix:
    """What the classes of normal traffic stay within."""

    counts: Ints  # (K,)
    d: float
    bounds: ClassBounds


def class_mix(hours: ClassHours, starts: Ints, n: Float64s, frequent: Float64s) -> ClassMix | None:
    """From the accepted hours, and from their ticks: n (T,) images, of them `frequent` (T, F) of hours.frequent.

    D_C is the largest D̂ over the frequent classes, each being expected at its share of that hour of the day.
    None where there was no image.
    """
    counts = hours.counts.sum(axis=0)
    if not counts.any():
        return None
    d = _dispersion(hours, starts, n, frequent)
    groups = full_hours(hours.starts, hours.counts.sum(axis=1).astype(np.float64), d)
    joined = np.zeros((groups.max() + 1, len(counts)))
    np.add.at(joined, groups[groups >= 0], hours.counts[groups >= 0])
    return ClassMix(counts, d, class_bounds(counts, joined))


def _dispersion(hours: ClassHours, starts: Ints, n: Float64s, frequent: Float64s) -> float:
    by_hour = np.zeros((HOURS_OF_DAY, hours.counts.shape[1]))
    np.add.at(by_hour, hours.starts // HOUR_US % HOURS_OF_DAY, hours.counts)
    shares = by_hour / np.maximum(by_hour.sum(axis=1, keepdims=True), 1)
    of_ticks = shares[starts // HOUR_US % HOURS_OF_DAY]
    columns = zip(frequent.T, of_ticks[:, hours.frequent].T, strict=True)
    return max((dispersion(n, k, p) for k, p in columns), default=1.0)
