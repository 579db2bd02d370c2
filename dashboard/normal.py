"""What is normal, as a band: what the detector takes for normal, and what chance adds to a bucket of n images. Pure."""

from datetime import datetime
from math import sqrt
from typing import NamedTuple

import numpy as np

from pipeline.records import Float64s, Ints, Reference
from pipeline.shift.baseline import Baseline
from pipeline.shift.histogram import FINE_BINS, bin_of
from pipeline.shift.hours import hour_of
from pipeline.shift.threshold import conformal_rank

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
    """Scores now and of the reference, in some `bins` bins of whole fine ones, as wide as both reach."""
    usual = np.bincount(bin_of(reference.scores, reference.fine_edges), minlength=FINE_BINS)
    filled = np.flatnonzero((fine + usual)[1:-1]) + 1  # both ends are open
    first, last = int(filled[0]), int(filled[-1]) + 1
    width = max(1, round((last - first) / bins))
    starts = np.arange(first, last, width)
    edges = np.append(
        reference.fine_edges[starts - 1], reference.fine_edges[min(starts[-1] + width, FINE_BINS - 1) - 1]
    )
    return Shape(edges.tolist(), _shares(fine, starts, last), _shares(usual, starts, last))


def at_least(reference: Reference, score: float) -> int:
    """How many of the reference's n scores reach this one."""
    return reference.n - int(np.searchsorted(reference.scores, score, side="left"))


def threshold_at(reference: Reference, rate: float) -> float:
    """The threshold that flags that share of normal images, by the rank that calibration takes."""
    return float(reference.scores[min(max(conformal_rank(reference.n, rate), 1), reference.n) - 1])


def rank_of(reference: Reference, threshold: float) -> float:
    """The share of the reference's images beyond a threshold."""
    return 1.0 - int(np.searchsorted(reference.scores, threshold, side="right")) / reference.n


def beyond(fine: Ints, edges: Float64s, threshold: float) -> Float64s:
    """How many images (t,) of fine histograms (t, 256) lie beyond a threshold; even within the bin that it cuts, but
    for both open ends, which count as a whole."""
    at = int(np.searchsorted(edges, threshold, side="left"))
    found: Float64s = fine[:, at + 1 :].sum(axis=1, dtype=np.float64)
    if at == 0:
        found += fine[:, 0] * (threshold < edges[0])
    elif at < len(edges):
        found += fine[:, at] * (edges[at] - threshold) / (edges[at] - edges[at - 1])
    return found


def _shares(counts: Ints, starts: Ints, last: int) -> list[float]:
    """Of each bin; what lies beyond both ends is counted in the outermost."""
    inside = counts.astype(np.float64)
    inside[starts[0]] += inside[: starts[0]].sum()
    inside[last - 1] += inside[last:].sum()
    inside[: starts[0]] = inside[last:] = 0
    shares: list[float] = (np.add.reduceat(inside[:last], starts) / max(inside.sum(), 1.0)).tolist()
    return shares
