"""Deployments that each drew their own calibration images: where the reference's ranks truly lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pipeline.records import Float64s, Ints
from pipeline.shift.histogram import edge_ranks
from pipeline.shift.threshold import conformal_rank, flag_rate_bounds


@dataclass(frozen=True, eq=False)
class Population:
    """R deployments, each with n calibration images of its own; scores are ranks, so any score will do.

    Scores fall into C cells: the histogram's bins, of which the one that holds the threshold may be cut in two.
    """

    n: int
    alpha: float
    cuts: Float64s  # (R, C − 1): true share of normal scores below each cut, ascending
    bins: Ints  # (C,) the histogram's bin of each cell
    flagged: NDArray[np.bool_]  # (C,)

    def __len__(self) -> int:
        return len(self.cuts)

    @cached_property
    def shares(self) -> Float64s:
        """(R, C): of normal scores in each cell."""
        shares: Float64s = np.diff(self.cuts, axis=1, prepend=0, append=1)
        return shares

    @cached_property
    def flag_rate(self) -> Float64s:
        """(R,): the true share of normal images that are flagged."""
        rate: Float64s = self.shares[:, self.flagged].sum(axis=1)
        return rate

    @cached_property
    def z(self) -> Float64s:
        """(R, C − 1): the cuts in standard deviations, as though normal scores were Gaussian."""
        positions: Float64s = ndtri(self.cuts)
        return positions


def join(populations: Sequence[Population]) -> Population:
    """All deployments of populations that were calibrated alike."""
    return replace(populations[0], cuts=np.concatenate([one.cuts for one in populations]))


def draw_population(n: int, alpha: float, size: int, rng: np.random.Generator, *, at_bound: bool = False) -> Population:
    """Deployments whose cuts are order statistics of n uniform numbers.

    Args:
        at_bound: make the true flag rate p0⁺ exactly, the worst that the detector's null allows.
    """
    rank = conformal_rank(n, alpha)
    edges = edge_ranks(n)
    ranks = np.unique(np.append(edges, rank))
    gaps = np.diff(ranks, prepend=0, append=n + 1)
    cells = rng.standard_gamma(gaps, (size, len(gaps)))
    flagged = np.append(ranks, n + 1) > rank
    below = np.concatenate([[0], ranks])  # the rank at which each cell begins
    bins = np.searchsorted(edges, below, side="right")
    if at_bound:
        bound = flag_rate_bounds(n, rank)[1]
        for part, share in ((flagged, bound), (~flagged, 1 - bound)):
            cells[:, part] *= share / cells[:, part].sum(axis=1, keepdims=True)
    shares = cells / cells.sum(axis=1, keepdims=True)
    return Population(n, alpha, np.cumsum(shares, axis=1)[:, :-1], bins, flagged)
