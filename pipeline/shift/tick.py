"""A tick as the detector reads it: sums by segment, and of all traffic."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np

from pipeline.records import Float64s, Ints
from pipeline.shift.histogram import BINS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Sums(Protocol):
    """What is read of a roll-up; counts may be fractional."""

    @property
    def n(self) -> float:
        """Images."""

    @property
    def flags(self) -> float:
        """Flagged ones."""

    @property
    def histogram(self) -> Ints | Float64s | None:
        """Of the scores, (18,); None where it was not kept."""

    @property
    def class_counts(self) -> Ints | None:
        """By predicted class, (K,)."""

    @property
    def z_n(self) -> int:
        """Images in the two sums of features."""

    @property
    def z_sum(self) -> Float64s | None:
        """Σ z, (d,)."""

    @property
    def z_outer(self) -> Float64s | None:
        """Upper triangle of Σ z zᵀ, row by row."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Sums without the rest of a roll-up."""

    n: float
    flags: float
    histogram: Float64s | None = None
    class_counts: Ints | None = None
    z_n: int = 0
    z_sum: Float64s | None = None
    z_outer: Float64s | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tick:
    """[start, start + minutes) of event time. Segments without images may be left out.

    `pooled` brings classes and features of all traffic; flags and histogram are summed over the segments.
    """

    start: datetime  # aware
    minutes: float
    segments: Mapping[str, Sums] = field(default_factory=dict)
    pooled: Sums | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A tick's counts of S segments of R deployments, in the detector's order."""

    n: Float64s  # (S, R)
    k: Float64s  # (S, R)
    histograms: Float64s  # (S, R, 18)
    classes: Float64s | None = None  # (R, K) of all traffic


def table(tick: Tick, rows: Mapping[str, int]) -> Table:
    """One deployment's tick as arrays; a segment that it lacks has zeros. `rows` must know all of its names."""
    at = np.fromiter((rows[name] for name in tick.segments), np.int64, len(tick.segments))
    count = len(rows)
    n, k, histograms = np.zeros((count, 1)), np.zeros((count, 1)), np.zeros((count, 1, BINS))
    parts = list(tick.segments.values())
    n[at, 0] = _column(part.n for part in parts)
    k[at, 0] = _column(part.flags for part in parts)
    kept = [part.histogram for part in parts if part.histogram is not None]
    if kept:
        histograms[at[[part.histogram is not None for part in parts]], 0] = kept
    classes = class_counts(tick)
    return Table(n, k, histograms, None if classes is None else classes[None])


def with_all_traffic(values: Float64s, *, segments: bool) -> Float64s:
    """Row 0 is the sum, then, where there are `segments`, their rows."""
    total = values.sum(axis=0, keepdims=True)
    return np.concatenate([total, values]) if segments else total


def new_names(tick: Tick, known: Mapping[str, int]) -> Sequence[str]:
    """Segments that were not seen before, sorted: the order in which a tick lists them changes nothing."""
    return sorted(name for name in tick.segments if name not in known)


def to_us(at: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The inverse."""
    return _EPOCH + us * _MICROSECOND


def _column(values: Iterable[float]) -> Float64s:
    return np.fromiter(values, np.float64)


def class_counts(tick: Tick) -> Float64s | None:
    """Images of all traffic by predicted class, (K,); None where the tick does not say."""
    parts = [tick.pooled] if tick.pooled is not None else list(tick.segments.values())
    known = [part.class_counts for part in parts if part.class_counts is not None]
    return np.sum(known, axis=0, dtype=np.float64) if known else None
