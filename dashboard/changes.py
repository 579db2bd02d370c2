"""What changed between two windows: everything that roll-ups count, ranked by effect, with error control. Pure.

effect     of a share, by how much it moved; of a distribution, how many images lie on another side of some value
floor      what moved by less than one image in a hundred is nothing, however surely it did: a window of a million
           images would list everything otherwise
p-value    that the effect is no larger than the floor, by bounds that hold at any n (`pipeline.shift.differences`);
           images that come in clumps of D count as n / D
kept       by Benjamini and Yekutieli at 5 %: of what is listed, one in twenty is chance at most, on average, however
           all of it hangs together; `least` is the effect at the least, wrong for as few of them
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from dashboard.times import percent
from pipeline.records import Float64s, Ints
from pipeline.shift.differences import (
    Selected,
    band,
    difference_of_shapes,
    difference_of_shares,
    distance,
    least_difference_of_shapes,
    least_difference_of_shares,
    select,
)
from pipeline.shift.histogram import PROPERTY_EDGES
from pipeline.shift.rollup import RollUp
from pipeline.storage.series import Totals

Of = Literal["everything", "segment", "class"]

FALSE = 0.05  # of what is listed
FLOOR = 0.01
QUANTILES = (0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that may have changed; `name` is the segment's or the class's, else empty."""

    what: str
    of: Of
    name: str
    before: str
    now: str
    effect: float
    p: float
    kept: bool = False
    least: float | None = None  # of what is kept


class Quantile(NamedTuple):
    """Below which score so many images lie, in nats; all intervals of `change` hold at once, at 95 %."""

    share: float
    before: float
    now: float
    low: float | None  # of the change; None: no image says how far
    high: float | None


class _Shares(NamedTuple):
    what: str
    of: Of
    name: str
    before: tuple[int, int]  # k, n
    now: tuple[int, int]
    d: float


class _Shape(NamedTuple):
    what: str
    counts: Float64s  # (2, b)
    means: tuple[str, str]


def what_changed(
    before: RollUp,
    now: RollUp,
    segments: Mapping[str, tuple[Totals, Totals]],
    classes: Sequence[str],
    d: Callable[[str | None], float],
) -> list[Change]:
    """Everything, the largest kept effect first.

    Args:
        segments: (before, now) of each; empty where one segment alone is looked at.
        d: dispersion of a segment, None: of everything; 1 where images are independent.
    """
    shares = [*_everything(before, now, d(None)), *_classes(before, now, classes, d(None))]
    shares += _segments(segments, (before.n, now.n), d)
    shapes = list(_shapes(before, now))
    k = np.array([[one.before[0], one.now[0]] for one in shares], np.float64).T
    n = np.array([[one.before[1], one.now[1]] for one in shares], np.float64).T
    apart = np.array([one.d for one in shares])
    whole = np.array([before.n, now.n]) / d(None)
    p_shares = difference_of_shares(k / apart, n / apart, FLOOR)
    p_shapes = [difference_of_shapes(one.counts, whole, FLOOR) for one in shapes]
    chosen = select(np.concatenate([p_shares, p_shapes]), FALSE)
    least = least_difference_of_shares(k / apart, n / apart, chosen.level) if chosen.level else np.zeros(len(shares))
    found = [
        Change(
            one.what,
            one.of,
            one.name,
            percent(one.before[0] / one.before[1]),
            percent(one.now[0] / one.now[1]),
            abs(one.now[0] / one.now[1] - one.before[0] / one.before[1]),
            float(p),
            least=float(low),
        )
        for one, p, low in zip(shares, p_shares, least, strict=True)
    ]
    found += [
        Change(
            one.what,
            "everything",
            "",
            *one.means,
            distance(one.counts),
            p,
            least=least_difference_of_shapes(one.counts, whole, chosen.level) if chosen.level else None,
        )
        for one, p in zip(shapes, p_shapes, strict=True)
    ]
    return _marked(found, chosen)


def quantiles(before: RollUp, now: RollUp, fine_edges: Float64s, d: float) -> list[Quantile]:
    """Scores at some ranks in both windows, and what lies between them; read off the fine histogram."""
    n = np.array([before.n, now.n]) / d
    widths = band(n, FALSE / 2)
    found = []
    for share in QUANTILES:
        here = [
            (_at(one, fine_edges, share), _at(one, fine_edges, share - wide), _at(one, fine_edges, share + wide))
            for one, wide in zip((before.fine_histogram, now.fine_histogram), widths, strict=True)
        ]
        (was, was_low, was_high), (is_, is_low, is_high) = here
        if was is None or is_ is None:
            continue
        low = None if is_low is None or was_high is None else is_low - was_high
        high = None if is_high is None or was_low is None else is_high - was_low
        found.append(Quantile(share, was, is_, low, high))
    return found


def _everything(before: RollUp, now: RollUp, d: float) -> list[_Shares]:
    return [
        _Shares("unusual images", "everything", "", (before.flags, before.n), (now.flags, now.n), d),
        _Shares("same as the one before", "everything", "", (before.repeats, before.n), (now.repeats, now.n), d),
    ]


def _classes(before: RollUp, now: RollUp, classes: Sequence[str], d: float) -> list[_Shares]:
    found = []
    for at, name in enumerate(classes):
        n = [int(one.class_counts[at]) for one in (before, now)]
        k = [int(one.class_flags[at]) for one in (before, now)]
        if any(n):
            found.append(_Shares("share of predictions", "class", name, (n[0], before.n), (n[1], now.n), d))
        if all(n):
            found.append(_Shares("unusual images", "class", name, (k[0], n[0]), (k[1], n[1]), d))
    return found


def _segments(
    segments: Mapping[str, tuple[Totals, Totals]], n: tuple[int, int], d: Callable[[str | None], float]
) -> list[_Shares]:
    found = []
    for name, (past, present) in segments.items():
        if past.n or present.n:
            found.append(_Shares("share of traffic", "segment", name, (past.n, n[0]), (present.n, n[1]), d(name)))
        if past.n and present.n:
            counted = (past.flags, past.n), (present.flags, present.n)
            found.append(_Shares("unusual images", "segment", name, *counted, d(name)))
    return found


def _shapes(before: RollUp, now: RollUp) -> list[_Shape]:
    counts = np.array([before.fine_histogram, now.fine_histogram], np.float64)
    was, is_ = (f"mean {one.score_sum / one.n:.2f}".replace("-", "−") for one in (before, now))
    found = [_Shape("scores", counts, (was, is_))]
    for at, (name, edges) in enumerate(PROPERTY_EDGES.items()):
        of_both = before.properties[at], now.properties[at]
        if all(one.any() for one in of_both):
            was, is_ = (f"mean {_mean(one, edges):.3g}" for one in of_both)
            found.append(_Shape(name, np.array(of_both, np.float64), (was, is_)))
    return found


def _marked(found: Sequence[Change], chosen: Selected) -> list[Change]:
    marked = [
        replace(one, kept=bool(keep), least=one.least if keep else None)
        for one, keep in zip(found, chosen.kept, strict=True)
    ]
    return sorted(marked, key=lambda one: (not one.kept, -one.effect, one.name, one.what))


def _at(counts: Ints, edges: Float64s, share: float) -> float | None:
    """The score below which that share of images lies; None beyond the edges, where bins are open."""
    below = np.cumsum(counts) / max(counts.sum(), 1)
    if not below[0] <= share <= below[-2]:
        return None
    return float(np.interp(share, below[:-1], edges))


def _mean(counts: Ints, edges: Float64s) -> float:
    """Of a property, from the middles of its bins; those at the ends count at their edge."""
    middles = np.concatenate([edges[:1], (edges[:-1] + edges[1:]) / 2, edges[-1:]])
    return float(counts @ middles / max(counts.sum(), 1))
