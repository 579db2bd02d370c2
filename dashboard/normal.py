"""What is normal, as a band: what the detector takes for normal, and what chance adds to a bucket of n images. Pure."""

from collections.abc import Sequence
from datetime import datetime
from math import sqrt
from typing import NamedTuple

import numpy as np

from pipeline.records import Float64s, Ints, Reference
from pipeline.shift.baseline import Baseline
from pipeline.shift.hours import hour_of

_CHANCE = 1.96  # standard deviations: 95 % of buckets


class Calm(NamedTuple):
    """Between which shares a bucket is normal."""

    low: float
    high: float


def calm(reference: Reference, baseline: Baseline | None, segment: str | None, at: datetime, n: float) -> Calm:
    """The band of a bucket of n images: the accepted hour's bounds, else the reference's, widened by chance.

    Images come in clumps: D of them count as one, where an accepted baseline says so.
    """
    own = None if baseline is None else baseline.pooled if segment is None else baseline.of(segment)
    low, high, d = reference.p0_low, reference.p0_high, 1.0
    if own is not None:
        hour = hour_of(at)[1]
        low, high, d = min(low, float(own.low[hour])), max(high, float(own.high[hour])), own.d
    images = max(n, 1.0) / d

    def chance(p: float) -> float:
        return _CHANCE * sqrt(p * (1 - p) / images)

    return Calm(max(0.0, low - chance(low)), min(1.0, high + chance(high)))


class Shape(NamedTuple):
    """Two histograms of scores over the same bins, as shares of images."""

    edges: list[float]
    now: list[float]
    normal: list[float]


def shape(reference: Reference, fine: Ints, *, bins: int = 44) -> Shape:
    """Scores now and of the reference in equal bins with an edge on the threshold, as wide as both reach."""
    inner = reference.fine_edges
    middle = np.concatenate([[inner[0]], (inner[:-1] + inner[1:]) / 2, [inner[-1]]])
    low = float(min(reference.scores[0], middle[np.flatnonzero(fine)[0]] if fine.any() else np.inf))
    high = float(max(reference.scores[-1], middle[np.flatnonzero(fine)[-1]] if fine.any() else -np.inf))
    step = (high - low) / bins or 1.0
    first = reference.threshold - step * np.ceil((reference.threshold - low) / step)
    edges = first + step * np.arange(bins + 2)
    return Shape(
        edges.tolist(), _shares(middle, fine, edges), _shares(reference.scores, np.ones(len(reference.scores)), edges)
    )


def at_least(reference: Reference, score: float) -> int:
    """How many of the reference's n scores reach this one."""
    return reference.n - int(np.searchsorted(reference.scores, score, side="left"))


def _shares(values: Float64s, weights: Sequence[float] | Float64s | Ints, edges: Float64s) -> list[float]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges, weights=np.asarray(weights, np.float64))
    whole = counts.sum()
    shares: list[float] = (counts / whole if whole else counts).tolist()
    return shares
