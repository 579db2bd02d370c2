"""How well a score separates two sets: FPR95, AUROC, AUPR, thresholds, intervals. NumPy float64.

Everywhere: a higher score is more unusual, in-distribution (ID) is the positive class, as in Liu et al.
2020. An image is kept where score <= threshold and flagged where score > threshold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import RefusedError
from pipeline.records import Float64s

TARGET_TPR = 0.95
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Separation:
    """What one score says about one out-of-distribution (OOD) set; all but n are shares in 0..1."""

    n: int
    fpr95: float  # OOD accepted while 95 % of ID is kept
    fpr95_official: float  # the same as the authors' code counts it
    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95_ood_positive: float  # the opposite reading: ID rejected while 95 % of OOD is caught
    low: float  # 95 % interval of fpr95
    high: float
    auroc_low: float  # 95 % interval of auroc
    auroc_high: float


def separation(
    id_scores: Float64s, ood_scores: Float64s, *, id_weight: float = 1.0, rng: np.random.Generator
) -> Separation:
    """All figures of one score on one OOD set.

    Args:
        id_scores: shape (n,), n >= 1. ood_scores: shape (m,), m >= 1. Finite.
        id_weight: how many ID images each ID score stands for; AUPR alone depends on it.
    """
    ids, oods = np.sort(id_scores), np.sort(ood_scores)
    fpr95 = float(_share_at_most(oods, threshold_at(ids)))
    area = auroc(ids, oods)
    low, high = interval(fpr95_resamples(ids, [oods], rng=rng)[0])
    never_seen = 0.025 ** (1 / len(oods))  # resampling cannot show what did not happen once
    low = min(low, never_seen) if fpr95 == 1 else low
    high = max(high, 1 - never_seen) if fpr95 == 0 else high
    margin = 1.959964 * auroc_deviation(ids, oods)
    return Separation(
        n=len(oods),
        fpr95=fpr95,
        fpr95_official=fpr95_official(ids, oods),
        auroc=area,
        aupr_in=average_precision(ids, oods, positive_weight=id_weight),
        aupr_out=average_precision(-oods, -ids, negative_weight=id_weight),
        fpr95_ood_positive=float(_share_at_most(-ids[::-1], threshold_at(-oods[::-1]))),
        low=min(low, fpr95),
        high=max(high, fpr95),
        auroc_low=max(0.0, area - margin),
        auroc_high=min(1.0, area + margin),
    )


def threshold_at(sorted_ids: Float64s, share: float = TARGET_TPR) -> float:
    """The k-th smallest of n ascending scores, k = ⌈share · n⌉: at least that share is kept."""
    return float(sorted_ids[_rank(len(sorted_ids), share) - 1])


def fpr95_official(sorted_ids: Float64s, sorted_oods: Float64s) -> float:
    """FPR95 as wetliu/energy_ood (utils/display_results.py, `fpr_and_fdr_at_recall`) counts it.

    It takes the recall nearest to 95 %, be it below, and walks from high recall to low: OOD scores
    between the ID score on the threshold and the next one count as accepted. So it is equal or
    slightly higher than the plain count wherever 0.95 n is an integer.
    """
    values, counts = np.unique(sorted_ids, return_counts=True)
    recall = np.cumsum(counts) / len(sorted_ids)
    accepted = np.searchsorted(sorted_oods, values[1:], side="left")  # OOD below the next ID score
    accepted = np.append(accepted, np.searchsorted(sorted_oods, values[-1], side="right"))
    downwards = slice(None, None, -1)
    nearest = np.argmin(np.abs(recall[downwards] - TARGET_TPR))
    return float(accepted[downwards][nearest] / len(sorted_oods))


def auroc(sorted_ids: Float64s, sorted_oods: Float64s) -> float:
    """P(OOD score > ID score) + ½ P(equal). The same whichever class is called positive."""
    return float(_placements(sorted_ids, sorted_oods).mean())


def auroc_deviation(sorted_ids: Float64s, sorted_oods: Float64s) -> float:
    """Standard error of the AUROC (DeLong, DeLong and Clarke-Pearson 1988); 0 where a set has one image."""
    of_oods = _placements(sorted_ids, sorted_oods)
    of_ids = _placements(-sorted_oods[::-1], -sorted_ids[::-1])
    parts = (values.var(ddof=1) / len(values) for values in (of_oods, of_ids) if len(values) > 1)
    return math.sqrt(sum(float(part) for part in parts))


def average_precision(
    positives: Float64s, negatives: Float64s, *, positive_weight: float = 1.0, negative_weight: float = 1.0
) -> float:
    """AUPR as Σ (R_n − R_{n−1}) P_n over distinct scores, low scores being called positive first.

    The same as scikit-learn's `average_precision_score` of the negated scores; the trapezoid of
    pytorch-ood and OpenOOD differs in the third or fourth digit. It depends on the ratio of the sets.
    """
    values, counts = np.unique(positives, return_counts=True)
    hits = positive_weight * np.cumsum(counts)
    misses = negative_weight * np.searchsorted(np.sort(negatives), values, side="right")
    return float((counts * (hits / (hits + misses))).sum() / len(positives))


def fpr95_resamples(sorted_ids: Float64s, oods: Sequence[Float64s], *, rng: np.random.Generator) -> Float64s:
    """Bootstrap replicates of FPR95, shape (sets, 2000); all sets of one replicate share its ID sample.

    Resampling n scores with replacement and taking the k-th smallest gives the ⌈n U⌉-th score with
    U ~ Beta(k, n + 1 − k); the share of a resampled OOD set below it is binomial. So nothing is sorted.
    """
    n = len(sorted_ids)
    k = _rank(n, TARGET_TPR)
    ranks = np.ceil(n * rng.beta(k, n + 1 - k, _RESAMPLES)).astype(np.int64).clip(1, n)
    thresholds = sorted_ids[ranks - 1]
    return np.stack([rng.binomial(len(ood), _share_at_most(ood, thresholds)) / len(ood) for ood in oods])


def interval(replicates: Float64s) -> tuple[float, float]:
    """The middle 95 % of bootstrap replicates."""
    low, high = np.quantile(replicates, [0.025, 0.975])
    return float(low), float(high)


def roc_curve(sorted_ids: Float64s, sorted_oods: Float64s, points: int = 121) -> Float64s:
    """(points, 2): share of OOD accepted, share of ID kept; from (0, 0) to (1, 1), for drawing."""
    both = np.sort(np.concatenate([sorted_ids, sorted_oods]))
    at = both[np.linspace(0, len(both) - 1, points - 1).round().astype(np.int64)]
    curve = np.column_stack([_share_at_most(sorted_oods, at), _share_at_most(sorted_ids, at)])
    return np.concatenate([[[0.0, 0.0]], curve])


def shares_in_bins(scores: Float64s, edges: Float64s) -> Float64s:
    """The share of the scores in each of the bins that b inner edges make, shape (b + 1,); see shift.histogram."""
    bins = np.searchsorted(edges, scores, side="left")
    return np.bincount(bins, minlength=len(edges) + 1) / len(scores)


def total_variation(left: Float64s, right: Float64s) -> float:
    """Half the sum of absolute differences of two histograms: 0 the same, 1 without overlap."""
    return float(np.abs(left - right).sum() / 2)


def _rank(n: int, share: float) -> int:
    if n < 1:
        raise RefusedError("no in-distribution score is left to set a threshold; add images to --id")
    return math.ceil(share * n - 1e-9)


def _share_at_most(sorted_scores: Float64s, thresholds: Float64s | float) -> Float64s:
    return np.searchsorted(sorted_scores, thresholds, side="right") / len(sorted_scores)


def _placements(sorted_ids: Float64s, sorted_oods: Float64s) -> Float64s:
    """For each OOD score the share of ID below it, ties counting half."""
    below = np.searchsorted(sorted_ids, sorted_oods, side="left")
    up_to = np.searchsorted(sorted_ids, sorted_oods, side="right")
    placements: Float64s = (below + up_to) / (2 * len(sorted_ids))
    return placements
