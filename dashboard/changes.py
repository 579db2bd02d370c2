"""What changed between two windows: everything that roll-ups count, ranked by effect, with error control. Pure.

an effect       distance of two distributions, ½·Σ|p − q|, 0 to 1; of a share, |p − q|
its p-value     chi-square of the two rows of counts, divided by D: images that come in clumps tell less
kept            by Benjamini and Hochberg at 5 %: of what is listed, one in twenty is chance, on average
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import chi2

from dashboard.times import percent
from pipeline.records import Float64s, Ints
from pipeline.shift.histogram import PROPERTY_EDGES
from pipeline.shift.rollup import RollUp
from pipeline.storage.series import Totals

Kind = Literal["unusual images", "scores", "segment", "class", "property", "repeats"]

_FALSE = 0.05
_LEAST = 5.0  # images expected in a cell of the test


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that may have changed."""

    kind: Kind
    name: str
    before: str
    now: str
    effect: float
    p: float
    kept: bool = False


def what_changed(
    before: RollUp,
    now: RollUp,
    segments: Mapping[str, tuple[Totals, Totals]],
    classes: Sequence[str],
    d: float,
) -> list[Change]:
    """Everything, the largest kept effect first; `segments` as (before, now)."""
    found = [*_all_traffic(before, now, d), *_properties(before, now, d), *_classes(before, now, classes, d)]
    for name, (past, present) in segments.items():
        if past.n and present.n:
            found.append(_share("segment", name, (past.flags, past.n), (present.flags, present.n), d))
    kept = _kept([one.p for one in found])
    marked = [
        Change(one.kind, one.name, one.before, one.now, one.effect, one.p, keep)
        for one, keep in zip(found, kept, strict=True)
    ]
    return sorted(marked, key=lambda one: (not one.kept, -one.effect, one.name))


def _all_traffic(before: RollUp, now: RollUp, d: float) -> Iterator[Change]:
    yield _share("unusual images", "all traffic", (before.flags, before.n), (now.flags, now.n), d)
    yield _share("repeats", "same as the one before", (before.repeats, before.n), (now.repeats, now.n), d)
    mean = [f"mean {one.score_sum / one.n:.2f}" for one in (before, now)]
    yield _shape("scores", "score histogram", before.histogram, now.histogram, mean[0], mean[1], d)


def _properties(before: RollUp, now: RollUp, d: float) -> Iterator[Change]:
    for at, (name, edges) in enumerate(PROPERTY_EDGES.items()):
        means = [f"mean {_mean(one.properties[at], edges):.3g}" for one in (before, now)]
        yield _shape("property", name, before.properties[at], now.properties[at], means[0], means[1], d)


def _classes(before: RollUp, now: RollUp, classes: Sequence[str], d: float) -> Iterator[Change]:
    for at, name in enumerate(classes):
        if before.class_counts[at] + now.class_counts[at] > 0:
            counted = [(int(one.class_counts[at]), one.n) for one in (before, now)]
            yield _share("class", name, counted[0], counted[1], d)


def _share(kind: Kind, name: str, before: tuple[int, int], now: tuple[int, int], d: float) -> Change:
    rows = np.array([[k, n - k] for k, n in (before, now)], np.float64)
    shares = before[0] / before[1], now[0] / now[1]
    return Change(kind, name, percent(shares[0]), percent(shares[1]), abs(shares[1] - shares[0]), _chance(rows, d))


def _shape(kind: Kind, name: str, before: Ints, now: Ints, was: str, is_: str, d: float) -> Change:
    rows = np.array([before, now], np.float64)
    p, q = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
    return Change(kind, name, was, is_, float(np.abs(p - q).sum() / 2), _chance(rows, d))


def _chance(rows: Float64s, d: float) -> float:
    """How likely chance alone makes two rows of counts differ so much; cells with too few images are joined."""
    rows = rows[:, rows.sum(axis=0) > 0]
    expected = rows.sum(axis=1, keepdims=True) * rows.sum(axis=0) / max(rows.sum(), 1)
    full = expected.min(axis=0, initial=np.inf) >= _LEAST
    if not full.all():
        rest = ~full
        rows = np.column_stack([rows[:, full], rows[:, rest].sum(axis=1)])
        expected = np.column_stack([expected[:, full], expected[:, rest].sum(axis=1)])
    if rows.shape[1] < 2 or expected.min() <= 0:
        return 1.0
    return float(chi2.sf(((rows - expected) ** 2 / expected).sum() / d, rows.shape[1] - 1))


def _kept(p: Sequence[float]) -> list[bool]:
    order = np.argsort(p)
    ranks = np.arange(1, len(p) + 1) / max(len(p), 1) * _FALSE
    below = np.flatnonzero(np.asarray(p)[order] <= ranks)
    most = p[order[below[-1]]] if len(below) else -1.0
    return [one <= most for one in p]


def _mean(counts: Ints, edges: Float64s) -> float:
    """Of a property, from the middles of its bins; those at the ends count at their edge."""
    middles = np.concatenate([edges[:1], (edges[:-1] + edges[1:]) / 2, edges[-1:]])
    return float(counts @ middles / max(counts.sum(), 1))
