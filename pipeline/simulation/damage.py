"""What can happen to traffic: which cells its scores fall into while it is not normal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from pipeline.records import Float64s
from pipeline.shift.histogram import BINS, expected_shares
from pipeline.simulation.population import Population

#: How far unusual images score above normal ones, in standard deviations.
UNUSUAL_SD = 3.5


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """From tick `start` on, until `end`: a share of the images of some segments is replaced.

    `weights` is that share: one number, one a deployment (R,), or one a tick since the start (T, 1), which holds
    its last value.
    """

    cells: Float64s  # (R, C): where the scores of the replaced images fall
    start: int
    weights: Float64s
    end: int | None = None
    segments: Sequence[int] | None = None  # None: all

    def weight(self, ticks: Float64s) -> Float64s:
        """(T, R or 1): the share that is replaced in each tick."""
        active = (ticks >= self.start) & (ticks < (np.inf if self.end is None else self.end))
        weights = self.weights
        if weights.ndim == 2:
            at = np.clip(ticks - self.start, 0, len(weights) - 1).astype(np.int64)
            return np.where(active[:, None], weights[at], 0.0)
        return np.where(active[:, None], np.atleast_1d(weights), 0.0)


def gaussian(population: Population, shift: float, scale: float = 1.0) -> Float64s:
    """Cells of scores that are moved by `shift` standard deviations and `scale` times as wide."""
    cells: Float64s = np.diff(ndtr((population.z - shift) / scale), axis=1, prepend=0, append=1)
    return cells


def unusual(population: Population) -> Float64s:
    """Cells of out-of-distribution images."""
    return gaussian(population, UNUSUAL_SD)


def weight_for(population: Population, cells: Float64s, flag_rate: float) -> Float64s:
    """(R,): the share of images to be replaced so that `flag_rate` of all are flagged."""
    of_cells = cells[:, population.flagged].sum(axis=1)
    weights: Float64s = np.clip((flag_rate - population.flag_rate) / (of_cells - population.flag_rate), 0, 1)
    return weights


def frozen(population: Population, rng: np.random.Generator) -> Float64s:
    """Cells of one ordinary image that is sent again and again: of each deployment another one."""
    chosen = (rng.random((len(population), 1)) > population.cuts).sum(axis=1)
    cells: Float64s = np.eye(population.shares.shape[1])[chosen]
    return cells


def measured(population: Population, bins: Float64s, undamaged: Float64s, flagged: float) -> Float64s:
    """Cells of damage that was measured on a reference's own images.

    The deviation of the same images without damage, (18,), is taken off: it is chance, or the share of images
    that were held back, and no shift.

    Args:
        bins: (18,) shares of the damaged images' scores; flagged: their share above the threshold.
    """
    shares = np.clip(bins - undamaged + expected_shares(population.n), 0, None)
    shares /= shares.sum()
    cells = np.zeros(len(population.bins))
    for b in range(BINS):
        inside = np.flatnonzero(population.bins == b)
        if len(inside) == 2:  # the threshold cuts this bin
            above = np.clip(flagged - shares[b + 1 :].sum(), 0, shares[b])
            cells[inside] = shares[b] - above, above
        elif len(inside):
            cells[inside] = shares[b]
    return np.tile(cells / cells.sum(), (len(population), 1))
