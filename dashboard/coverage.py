"""Probabilistic precision and recall of a few stored rows, without tensors. Pure.

    support_X(y) = 1 − Π_i min(1, ‖x_i − y‖ / R(X)),   R(X) = a · mean_i d_k(x_i)

`oodwatch coverage` does the same exactly, of more rows, and with the spread of both figures; this is what a page can
say from what is stored: the mean of P-precision without a change, its z, and which of the reference's images are
covered less than windows of the reference itself would cover them.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from pipeline.records import Float64s

A, K = 1.2, 4
FEWEST = 4 * (K + 2)  # rows: a half of the reference is held against the other
MOST_ROWS = 500  # of production that are compared
_FLOOR = 0.005  # of the spread: less is nothing that anybody would act on
_DRAWS = 8


@dataclass(frozen=True, slots=True)
class Usual:
    """P-precision without a change."""

    mean: float
    spread: float  # of one image's support
    n: int  # images of the reference

    def z(self, mean: float, m: int) -> float:
        """How far the mean support of m images lies from it, in standard deviations. Neighbours in time are no
        independent images: it ranks."""
        return (mean - self.mean) / self.deviation(m)

    def deviation(self, m: float) -> float:
        """Of the mean of m images."""
        return max(self.spread * sqrt(1 / max(m, 1) + 1 / self.n), _FLOOR)


@dataclass(frozen=True, slots=True, eq=False)
class Covered:
    """The reference's rows as production covers them, each in 0..1."""

    now: Float64s
    normally: Float64s  # by windows of the reference of the same size

    def least(self) -> list[int]:
        """Rows, those first of which most is lost."""
        return [int(i) for i in np.argsort(self.now - self.normally, kind="stable")]


def usual(reference: Float64s) -> Usual | None:
    """Of projected rows (n, d) of a reference; None where they are too few, or all alike."""
    n = len(reference)
    if n < FEWEST or (ball := radius(reference)) <= 0:
        return None
    own = supports(reference, reference, ball, is_itself=True)
    return Usual(float(own.mean()), float(own.std(ddof=1)), n)


def covered(reference: Float64s, production: Float64s, *, rng: np.random.Generator) -> Covered | None:
    """How production (m, d) covers the reference (n, d); None where there are too few rows to say so."""
    if len(reference) < FEWEST or (ball := radius(reference)) <= 0:
        return None
    inside = production[supports(production, reference, ball) > 0]
    m = min(len(inside), len(reference) // 2)
    if m < K + 2:
        return None
    inside = inside[rng.permutation(len(inside))[:m]]
    total, times = np.zeros(len(reference)), np.zeros(len(reference))
    for _ in range(_DRAWS):
        order = rng.permutation(len(reference))
        drawn, rest = reference[order[:m]], order[m:]
        total[rest] += supports(reference[rest], drawn, radius(drawn))
        times[rest] += 1
    normally = np.divide(total, times, out=np.zeros_like(total), where=times > 0)
    return Covered(supports(reference, inside, radius(inside)), normally)


def radius(rows: Float64s) -> float:
    """a times the mean distance to the k-th neighbour, of at least k + 2 rows."""
    distances = _distances(rows, rows)
    np.fill_diagonal(distances, np.inf)
    return A * float(np.partition(distances, K - 1, axis=1)[:, K - 1].mean())


def supports(rows: Float64s, reference: Float64s, ball: float, *, is_itself: bool = False) -> Float64s:
    """(m,) of rows (m, d); `is_itself`: each is supported by the others alone."""
    if ball <= 0:
        return np.zeros(len(rows))
    missed = np.minimum(_distances(rows, reference) / ball, 1.0)
    if is_itself:
        np.fill_diagonal(missed, 1.0)
    supported: Float64s = 1 - missed.prod(axis=1)
    return supported


def _distances(left: Float64s, right: Float64s) -> Float64s:
    squares = (left * left).sum(axis=1)[:, None] + (right * right).sum(axis=1) - 2 * left @ right.T
    found: Float64s = np.sqrt(np.maximum(squares, 0.0))
    return found
