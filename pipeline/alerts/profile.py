"""What a window's images looked like, as sums; and how far two windows lie apart."""

from dataclasses import dataclass, fields
from math import pi

import numpy as np

from pipeline.records import Float64s, Ints
from pipeline.shift.histogram import BINS, PROPERTY_BINS, PROPERTY_EDGES
from pipeline.shift.rollup import RollUp

PROPERTIES = tuple(PROPERTY_EDGES)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Sums over n images of some segments; K classes. Counts may be fractional where they stand in for images."""

    n: float
    flags: float
    repeats: float
    class_counts: Float64s  # (K,)
    class_flags: Float64s  # (K,)
    histogram: Float64s  # (18,)
    properties: Float64s  # (5, 16), in the order of PROPERTIES

    @classmethod
    def of(cls, sums: RollUp) -> "Profile":
        """What of a roll-up tells of causes."""
        counts = (sums.class_counts, sums.class_flags, sums.histogram, sums.properties)
        return cls(sums.n, sums.flags, sums.repeats, *(values.astype(np.float64) for values in counts))

    @classmethod
    def empty(cls, classes: int) -> "Profile":
        """Of no image."""
        return cls(
            0, 0, 0, np.zeros(classes), np.zeros(classes), np.zeros(BINS), np.zeros((len(PROPERTIES), PROPERTY_BINS))
        )

    def __add__(self, other: "Profile") -> "Profile":
        """Of both."""
        return Profile(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def flag_share(self) -> float:
        """Of the images; 0 where there is none."""
        return self.flags / self.n if self.n else 0.0

    @property
    def repeat_share(self) -> float:
        """Images with the same value as their segment's previous one; 0 where there is none."""
        return self.repeats / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class Move:
    """How one image property changed between two windows."""

    moved: float  # share of images that must have changed, 0..1, what chance makes of it taken off
    direction: float  # −1: the whole distribution lies lower, 1: higher
    before: float  # median
    now: float

    @property
    def up(self) -> float:
        """Share of images that moved up, where all moved one way."""
        return self.moved * max(self.direction, 0.0)

    @property
    def down(self) -> float:
        """The same, down."""
        return self.moved * max(-self.direction, 0.0)


STILL = Move(0.0, 0.0, 0.0, 0.0)


def distance(before: Float64s | Ints, now: Float64s | Ints, d: float = 1.0) -> float:
    """Total variation ½Σ|p − q| of two histograms less what chance makes of it, 0..1; 0 where either is empty.

    Chance: with m the shares of both together, n and n' images of which d count as one,
    E½Σ|p − q| ≈ ½Σ√(2m(1 − m)(d/n + d/n')/π).
    """
    n, m = float(before.sum()), float(now.sum())
    if n <= 0 or m <= 0:
        return 0.0
    p, q, both = before / n, now / m, (before + now) / (n + m)
    chance = 0.5 * np.sqrt(2 * both * (1 - both) * (d / n + d / m) / pi).sum()
    return max(0.0, float(0.5 * np.abs(p - q).sum() - chance))


def moves(before: Profile, now: Profile, d: float = 1.0) -> dict[str, Move]:
    """By property; all still where either window is empty."""
    return {
        name: _move(old, new, PROPERTY_EDGES[name], d)
        for name, old, new in zip(PROPERTIES, before.properties, now.properties, strict=True)
    }


def _move(before: Float64s, now: Float64s, edges: Float64s, d: float) -> Move:
    if not before.sum() or not now.sum():
        return STILL
    lower = np.cumsum(before / before.sum()) - np.cumsum(now / now.sum())  # above 0: now lies higher
    way = float(np.abs(lower).sum())
    direction = float(lower.sum()) / way if way else 0.0
    return Move(distance(before, now, d), direction, _median(before, edges), _median(now, edges))


def _median(counts: Float64s, edges: Float64s) -> float:
    """Linear within a bin; the last bin, which has no end, counts as its beginning."""
    ends = np.concatenate([[0.0], edges, edges[-1:]])
    return float(np.interp(0.5, np.concatenate([[0.0], np.cumsum(counts / counts.sum())]), ends))
