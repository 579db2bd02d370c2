"""A new reference from scores that production has stored: same model, same score, another threshold.

n dependent scores are worth n/D independent ones. So many evenly spaced order statistics of them are kept, and
threshold, edges and bounds follow as from a calibration of that size: nothing more is promised.
"""

from dataclasses import replace
from datetime import datetime

import numpy as np

from pipeline.records import Float64s, Ints, Reference, ReferenceImage
from pipeline.shift.histogram import fine_edges, rank_edges
from pipeline.shift.threshold import conformal_threshold, flag_rate_bounds

MOST_SCORES = 100_000  # kept with a reference; the bounds of more would hardly be narrower


def thinned(scores: Float64s, n: int) -> Float64s:
    """n evenly spaced order statistics, ascending: the i-th is of rank ⌈i(N + 1)/(n + 1)⌉ of N."""
    ranks = np.ceil(np.arange(1, n + 1) * (len(scores) + 1) / (n + 1) - 1e-9).astype(np.int64)
    kept: Float64s = np.sort(scores)[np.minimum(ranks, len(scores)) - 1]
    return kept


def effective_size(n: int, d: float) -> int:
    """n/D, but at least one score and at most 100,000."""
    return max(min(int(n / d), MOST_SCORES), 1)


def renewed(
    old: Reference,
    scores: Float64s,
    class_counts: Ints,
    d: float,
    *,
    target_fpr: float,
    version: int,
    images: tuple[ReferenceImage, ...],
    now: datetime,
) -> Reference:
    """The next version of a reference, from N stored scores of accepted traffic with dispersion D.

    Features, projection, space and images stay the old one's, and its card, with a note. Raises RefusedError where
    N/D scores are too few for the target.
    """
    kept = thinned(scores, effective_size(len(scores), d))
    threshold, rank = conformal_threshold(kept, target_fpr)
    low, high = flag_rate_bounds(len(kept), rank)
    note = f" Measured when {old.name} was made, with its threshold."
    return replace(
        old,
        name=f"{old.model_name}-r{version}",
        version=version,
        target_fpr=target_fpr,
        n=len(kept),
        rank=rank,
        threshold=threshold,
        p0_low=low,
        p0_high=high,
        representative=True,
        created_at=now,
        scores=kept,
        edges=rank_edges(kept),
        fine_edges=fine_edges(kept),
        class_counts=np.rint(class_counts * (len(kept) / max(len(scores), 1))).astype(np.int64),
        card=None if old.card is None else replace(old.card, because=old.card.because.removesuffix(note) + note),
        images=images,
        id=None,
    )
