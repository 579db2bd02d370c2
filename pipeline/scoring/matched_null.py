"""What probabilistic precision and recall are without any change: windows of the reference itself, of equal size.

    z = (value − mean₀) / max(s₀, floor)

P-precision is a mean of per-image supports, so its null is exact for any window of m images: mean and deviation σ
of the support of each of n reference rows by the others, s₀ = σ √(1/m + 1/n).

P-recall is no mean: 40 windows of w rows are drawn from the reference without replacement and held against the rows
that are left. Such windows overlap, which makes their spread too small for a window from outside:
s₀ = s √((1 + w/n) / (1 − w/n)).

The floor keeps differences that nobody would act on from counting where the null hardly varies, as in hundreds of
dimensions. Neighbours in time are no independent images: z explains and ranks, it is no alarm with a promise.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RefusedError
from pipeline.records import Float64s, Ints
from pipeline.scoring.precision_recall import A, K, Support, radius, squared_distances, support

WINDOWS = 40
MAX_REFERENCE, MAX_WINDOW = 2_000, 500  # rows that are compared: the null costs their product, times the windows
_MOST_WINDOWS = 8  # of production, where it has more rows than a window
_FLOOR = 0.005  # of the spread of a figure
_GROUP_FLOOR = 0.02  # and of the mean over some of the reference's rows
_FEWEST_OF_GROUP = 20  # rows: half a window may hold all others


class Figure(NamedTuple):
    """One figure beside what it is without a change."""

    value: float
    mean: float
    spread: float
    z: float


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Production held against the null; the arrays are of the reference rows that the null uses."""

    p_precision: Figure
    p_recall: Figure
    p_recall_in_support: Figure
    coverage: Float64s  # (n,) of each reference row, in support
    windows: int  # of production, over which P-recall is a mean


class MatchedNull:
    """The null of one reference X (N, D) and windows of up to m rows.

    Raises RefusedError where the reference is too small for a window and what it is held against.
    """

    def __init__(
        self, reference: Tensor, m: int, *, rng: np.random.Generator, a: float = A, k: int = K, windows: int = WINDOWS
    ) -> None:
        size = len(reference)
        self.rows: Ints = np.sort(rng.permutation(size)[:MAX_REFERENCE])  # of X, that are compared
        n = len(self.rows)
        self.window = min(m, n // 2, MAX_WINDOW)
        if self.window < k + 2:
            raise RefusedError(
                f"without z: {size} reference rows and {m} of production leave windows of {self.window}, {k + 2} are"
                " needed; give more images"
            )
        self._a, self._k, self._rng = a, k, rng
        self._reference = reference[torch.from_numpy(self.rows)].double()
        self._radius = radius(self._reference, a=a, k=k)
        self._support = Support(self._reference, self._radius)
        squares = squared_distances(self._reference, self._reference)
        self._alone = self._support_by_the_others(squares)
        drawn = [self._draw(squares) for _ in range(windows)]
        self._full = np.array([float(np.nanmean(full)) for full, _ in drawn])
        self._covered = np.stack([inside for _, inside in drawn])  # (windows, n), NaN for the window's own rows
        self._wider = math.sqrt((1 + self.window / n) / (1 - self.window / n))

    @property
    def expected(self) -> Float64s:
        """(n,) what the coverage of each row is without a change."""
        expected: Float64s = np.nanmean(self._covered, axis=0)
        return expected

    def compare(self, production: Tensor) -> Compared:
        """Figures of production (m, D), of matched size: P-recall is a mean over up to 8 windows of it."""
        rows = production.double()
        supported = self._support(rows)
        parts = self._windows_of(len(rows))
        full, inside = zip(*(self._coverage(rows[part], supported[part]) for part in parts), strict=True)
        coverage = torch.stack(inside).mean(0).cpu().numpy()
        in_support = np.nanmean(self._covered, axis=1)
        return Compared(
            p_precision=self.of_support(supported.cpu().numpy()),
            p_recall=self._figure(float(torch.stack(full).mean()), self._full, _FLOOR),
            p_recall_in_support=self._figure(float(coverage.mean()), in_support, _FLOOR),
            coverage=coverage,
            windows=len(parts),
        )

    def of_support(self, supports: Float64s) -> Figure:
        """The mean support of some images, as P-precision of them."""
        return self.of_mean_support(float(supports.mean()), len(supports))

    def of_mean_support(self, mean: float, m: int) -> Figure:
        """The same where only the mean of m images is known."""
        normal, sigma = float(self._alone.mean()), float(self._alone.std(ddof=1))
        spread = sigma * math.sqrt(1 / m + 1 / len(self._alone))
        return Figure(mean, normal, spread, (mean - normal) / max(spread, _FLOOR))

    def of_group(self, coverage: Float64s, members: Ints) -> Figure | None:
        """The mean coverage of some of the reference's rows, by their places among `rows`; None where they are few.

        Beside it stands its normal mean, moved by as much as the coverage of all others has moved: a radius that is
        larger or smaller covers every row more or less, and says nothing of a group.
        """
        others = np.setdiff1d(np.arange(len(coverage)), members)
        if min(len(members), len(others)) < _FEWEST_OF_GROUP:
            return None
        drawn, beside = (np.nanmean(self._covered[:, part], axis=1) for part in (members, others))
        moved = float(coverage[others].mean()) - beside
        return self._figure(float(coverage[members].mean()), drawn + moved, _GROUP_FLOOR)

    def _figure(self, value: float, drawn: Float64s, floor: float) -> Figure:
        mean, spread = float(drawn.mean()), float(drawn.std(ddof=1)) * self._wider
        return Figure(value, mean, spread, (value - mean) / max(spread, floor))

    def _support_by_the_others(self, squares: Tensor) -> Float64s:
        missed = (squares / self._radius**2).clamp_(max=1).fill_diagonal_(1).prod(dim=1).sqrt()
        alone: Float64s = (1 - missed).cpu().numpy()
        return alone

    def _draw(self, squares: Tensor) -> tuple[Float64s, Float64s]:
        """(n,) twice: how a window of the rows covers the others; all of it, and its supported rows alone."""
        order = torch.from_numpy(self._rng.permutation(len(squares)))
        window, others = order[: self.window], order[self.window :]
        cross = squares[others][:, window]
        supported = 1 - (cross / self._radius**2).clamp_(max=1).prod(dim=0).sqrt()
        kept = torch.nonzero(supported > 0)[:, 0].cpu()
        own = squares[window][:, window].fill_diagonal_(math.inf)
        found = []
        for part in (torch.arange(self.window), kept):
            line = np.full(len(squares), np.nan)
            line[others.numpy()] = self._covered_by(own[part][:, part], cross[:, part]).cpu().numpy()
            found.append(line)
        return found[0], found[1]

    def _covered_by(self, own: Tensor, cross: Tensor) -> Tensor:
        if len(own) < self._k + 2:
            return torch.zeros(len(cross), dtype=cross.dtype, device=cross.device)
        size = self._a * float(own.kthvalue(self._k, dim=1).values.sqrt().mean())
        return 1 - (cross / size**2).clamp_(max=1).prod(dim=1).sqrt() if size > 0 else torch.zeros_like(cross[:, 0])

    def _windows_of(self, m: int) -> list[Tensor]:
        order = torch.from_numpy(self._rng.permutation(m))
        count = min(_MOST_WINDOWS, m // self.window)
        return [order[first * self.window : (first + 1) * self.window] for first in range(count)]

    def _coverage(self, rows: Tensor, supported: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over all reference rows of the coverage by all rows, and (n,) the coverage by supported ones."""
        kept = rows[supported > 0]
        full = support(self._reference, rows, radius(rows, a=self._a, k=self._k))
        if len(kept) == len(rows):
            return full.mean(), full
        if len(kept) < self._k + 2:
            return full.mean(), torch.zeros_like(full)
        return full.mean(), support(self._reference, kept, radius(kept, a=self._a, k=self._k))
