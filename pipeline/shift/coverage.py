"""Coverage: do the features still fill the reference's space? Mean and log-determinant of blocks of images.

One unlucky reference biases every block the same way, so p-values of a finite reference do not hold
(42.6 false alarms a month at 2,000 images); flags beyond limits that leave room for it do.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import chdtri

from pipeline.records import CoverageReference, Float64s, Ints
from pipeline.shift.evidence import Streams
from pipeline.shift.threshold import conformal_rank, flag_rate_bounds

BLOCK = 200  # images: a block closes at the first tick that has so many
SIZES: Float64s = np.rint(BLOCK * 2 ** (np.arange(11) / 2))  # of the bootstrap's blocks
BLOCKS = 999  # bootstrap blocks of each size
ALPHA = 0.01  # share of normal blocks that each limit flags
MOST_DISPERSED = 1.5  # D above which bootstrap blocks of single images say nothing of traffic
_MARGIN = 1.645  # standard errors
_WORST_CONDITION = 1e10  # of a covariance


class BlockStatistics(NamedTuple):
    """T² of a block's mean and L, log determinant of its covariance less the reference's."""

    t2: float
    logdet: float


class Limits(NamedTuple):
    """Flags: T² > t2, L < low, L > high."""

    t2: float
    low: float
    high: float


def block_statistics(n: float, z_sum: Float64s, z_outer: Float64s, reference: CoverageReference) -> BlockStatistics:
    """T² = n(z̄ − μ)ᵀΣ⁻¹(z̄ − μ); L = log det S − log det Σ, S = Σzzᵀ/n − z̄z̄ᵀ; z_outer (d, d)."""
    mean = z_sum / n
    away = mean - reference.mean
    t2 = n * float(away @ np.linalg.solve(reference.covariance, away))
    sign, logdet = np.linalg.slogdet(z_outer / n - np.outer(mean, mean))
    own = np.linalg.slogdet(reference.covariance)[1]
    return BlockStatistics(t2, float(logdet - own) if sign > 0 else -np.inf)


def limits(n: float, reference: CoverageReference) -> Limits:
    """The limits of a block of n images: of each table's two neighbours the more permissive, and room for n_cal.

    a = (√T²_(m) + √(χ²_{d,.95}·n/n_cal))²; h = 1.645·sd(L)·√(n/n_cal); b = L_(B+1−m) − h;
    c = L_(m) + h + d(d + 1)/(2·n_cal).
    """
    above = int(np.searchsorted(reference.sizes, n, side="left"))
    at = sorted({min(max(i, 0), len(reference.sizes) - 1) for i in (above - 1, above)})
    d = len(reference.mean)
    t2 = (np.sqrt(reference.t2[at].max()) + np.sqrt(chdtri(d, 0.05) * n / reference.n)) ** 2
    h = _MARGIN * reference.spread[at].max() * np.sqrt(n / reference.n)
    high = reference.high[at].max() + h + d * (d + 1) / (2 * reference.n)
    return Limits(float(t2), float(reference.low[at].min() - h), float(high))


def block_flags(statistics: BlockStatistics, limit: Limits) -> Float64s:
    """(3,) 0 or 1: moved, narrower, wider."""
    moved, narrower, wider = (
        statistics.t2 > limit.t2,
        statistics.logdet < limit.low,
        statistics.logdet > limit.high,
    )
    return np.array([moved, narrower, wider], dtype=np.float64)


def coverage_reference(
    n: int,
    mean: Float64s,
    covariance: Float64s,
    sizes: Float64s,
    t2: Float64s,
    logdet: Float64s,
    *,
    alpha: float = ALPHA,
    from_traffic: bool = False,
) -> CoverageReference:
    """From the statistics of B normal blocks of each size, t2 and logdet (G, B).

    m and q are rank and upper bound of a threshold calibrated on B values at α: the flags of a normal
    block are Bernoulli with probability at most q.
    """
    blocks = t2.shape[1]
    m = conformal_rank(blocks, alpha)
    t2, logdet = np.sort(t2, axis=1), np.sort(logdet, axis=1)
    return CoverageReference(
        n=n,
        mean=mean,
        covariance=covariance,
        sizes=np.asarray(sizes, dtype=np.float64),
        t2=t2[:, m - 1],
        low=logdet[:, blocks - m],
        high=logdet[:, m - 1],
        spread=logdet.std(axis=1),
        q=flag_rate_bounds(blocks, m)[1],
        from_traffic=from_traffic,
    )


def bootstrap(z: Float64s, rng: np.random.Generator) -> CoverageReference:
    """The coverage reference of projected features z (n, d): 999 blocks of each size, drawn with replacement."""
    n, d = z.shape
    mean = z.mean(axis=0)
    centred = z - mean
    covariance = centred.T @ centred / n
    products = (centred[:, :, None] * centred[:, None, :]).reshape(n, d * d)
    inverse, own = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
    t2, logdet = np.empty((len(SIZES), BLOCKS)), np.empty((len(SIZES), BLOCKS))
    for g, size in enumerate(SIZES.astype(np.int64)):
        drawn = rng.multinomial(size, np.full(n, 1 / n), size=BLOCKS).astype(np.float64)
        means = drawn @ centred / size
        t2[g] = size * np.einsum("bi,ij,bj->b", means, inverse, means)
        covariances = (drawn @ products / size).reshape(BLOCKS, d, d) - means[:, :, None] * means[:, None, :]
        logdet[g] = np.linalg.slogdet(covariances)[1] - own
    return coverage_reference(n, mean, covariance, SIZES, t2, logdet)


def traffic_coverage(
    n: Float64s, z_sum: Float64s, z_outer: Float64s, hours: Ints, d: float
) -> CoverageReference | None:
    """The coverage reference of B accepted blocks of traffic; None below 999, or where the features are degenerate.

    Each limit is the largest of the hours' quantiles: the flags of an hour that differs from all others are
    then as rare as those of the rest.

    Args:
        n: (B,); z_sum: (B, d); z_outer: (B, d(d + 1)/2), upper triangles.
        hours: (B,) hour of the day.
        d: dispersion of the traffic.
    """
    if len(n) < BLOCKS:
        return None
    mean = z_sum.sum(axis=0) / n.sum()
    covariance = symmetric(z_outer.sum(axis=0)) / n.sum() - np.outer(mean, mean)
    if degenerate(covariance):
        return None
    away = z_sum / n[:, None] - mean
    t2 = n * np.einsum("bi,ij,bj->b", away, np.linalg.inv(covariance), away)
    logdet = np.array([_logdet(*block) for block in zip(n, z_sum, z_outer, strict=True)])
    logdet -= np.linalg.slogdet(covariance)[1]
    of_hours = [hours == hour for hour in np.unique(hours)]

    def quantile(values: Float64s, share: float) -> Float64s:
        return np.array([np.quantile(values[of], share, method="higher") for of in of_hours])

    return CoverageReference(
        n=int(n.sum() / d),
        mean=mean,
        covariance=covariance,
        sizes=np.array([np.median(n)]),
        t2=quantile(t2, 1 - ALPHA).max(keepdims=True),
        low=-quantile(-logdet, 1 - ALPHA).max(keepdims=True),
        high=quantile(logdet, 1 - ALPHA).max(keepdims=True),
        spread=logdet.std(keepdims=True),
        q=flag_rate_bounds(len(n), conformal_rank(len(n), ALPHA))[1],
        from_traffic=True,
    )


def degenerate(covariance: Float64s) -> bool:
    """Whether the features fill fewer dimensions than they have: their determinant then says nothing."""
    return not np.linalg.cond(covariance) < _WORST_CONDITION


def symmetric(triangle: Float64s) -> Float64s:
    """The matrix of an upper triangle, row by row."""
    d = round((np.sqrt(8 * len(triangle) + 1) - 1) / 2)
    upper = np.zeros((d, d))
    upper[np.triu_indices(d)] = triangle
    return upper + np.triu(upper, 1).T


def _logdet(n: float, z_sum: Float64s, z_outer: Float64s) -> float:
    mean = z_sum / n
    sign, logdet = np.linalg.slogdet(symmetric(z_outer) / n - np.outer(mean, mean))
    return float(logdet) if sign > 0 else -np.inf


class ClosedBlock(NamedTuple):
    """A block that has enough images: where it began, what it spent, and its flags."""

    t0: int
    minutes: float
    spent: float
    flags: Float64s  # (3,)


def new_block(dimensions: int) -> Streams:
    """An empty block, as one record."""
    triangle = dimensions * (dimensions + 1) // 2
    counts = [(name, "<f8") for name in ("n", "minutes", "spent")]
    return np.zeros(1, dtype=[*counts, ("t0", "<i8"), ("z_sum", "<f8", (dimensions,)), ("z_outer", "<f8", (triangle,))])


def fill_block(
    block: Streams, t: int, minutes: float, spent: float, n: int, z_sum: Float64s, z_outer: Float64s
) -> None:
    """Add one tick's sums; z_outer is the upper triangle, row by row."""
    if block["n"][0] == 0:
        block["t0"] = t
    for name, value in (("n", n), ("minutes", minutes), ("spent", spent), ("z_sum", z_sum), ("z_outer", z_outer)):
        block[name][0] += value


def close_block(block: Streams, reference: CoverageReference) -> ClosedBlock | None:
    """The block's flags where it has enough images, and empty it; None where it stays open."""
    n = float(block["n"][0])
    if n < BLOCK:
        return None
    statistics = block_statistics(n, block["z_sum"][0], symmetric(block["z_outer"][0]), reference)
    closed = ClosedBlock(
        int(block["t0"][0]),
        float(block["minutes"][0]),
        float(block["spent"][0]),
        block_flags(statistics, limits(n, reference)),
    )
    block[:] = np.zeros_like(block)
    return closed
