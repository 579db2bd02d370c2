"""Before and after a new head, on rows that it was not fitted on. Pure NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from pipeline.records import Float64s, Ints
from pipeline.scoring.evaluation import Separation, separation
from pipeline.shift.threshold import conformal_threshold
from pipeline.training.groups import WORSE_BY, GroupAccuracy, Rows, group_accuracies, worst
from pipeline.training.last_layer_retraining import Head

Halves = tuple[Ints, Ints]


@dataclass(frozen=True, slots=True)
class Side:
    """One head on the held-out rows."""

    groups: Mapping[str, GroupAccuracy]
    worst: float  # accuracy of the worst group
    mean: float  # accuracy of all rows
    energy: float  # mean of the rows, nats
    threshold: float  # conformal, of all held-out rows: a suggestion, until `oodwatch calibrate`
    flagged: float  # share above the threshold that other held-out rows set
    outliers: Separation | None  # energies of held-out outliers


@dataclass(frozen=True, slots=True)
class HeadReport:
    """What a person decides by."""

    before: Side
    after: Side
    flagged_by_old_threshold: float  # share of held-out rows that the new head puts above the old head's threshold
    target_fpr: float

    @property
    def worse(self) -> str | None:
        """Why this is no repair; None where it is one."""
        before, after = self.before, self.after
        if after.worst < before.worst:
            return f"the worst group falls from {before.worst:.1%} to {after.worst:.1%}"
        if after.mean < before.mean - WORSE_BY:
            return f"mean accuracy falls from {before.mean:.1%} to {after.mean:.1%}"
        return None


def energies_of(head: Head, features: Float64s) -> Float64s:
    """E at temperature 1, (N,), nats."""
    return -np.asarray(logsumexp(head.logits(features), axis=1), np.float64)


def report(
    old: Head, new: Head, held: Rows, outliers: Float64s | None, target_fpr: float, rng: np.random.Generator
) -> HeadReport:
    """Compare two heads.

    Args:
        held: rows that the new head was not fitted on, in their natural shares.
        outliers: features (M, D) that it was not fitted on either.
        rng: cuts the rows in two for the flag rates, and draws the bootstrap.
    """
    order = rng.permutation(len(held.labels))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    before, after = energies_of(old, held.features), energies_of(new, held.features)
    return HeadReport(
        before=_side(old, held, halves, outliers, target_fpr, rng),
        after=_side(new, held, halves, outliers, target_fpr, rng),
        flagged_by_old_threshold=_flagged(before, after, halves, target_fpr),
        target_fpr=target_fpr,
    )


def _side(
    head: Head, held: Rows, halves: Halves, outliers: Float64s | None, target_fpr: float, rng: np.random.Generator
) -> Side:
    right = head.logits(held.features).argmax(axis=1) == held.labels
    table = group_accuracies(right, held.groups)
    energies = energies_of(head, held.features)
    return Side(
        groups={held.names[group]: accuracy for group, accuracy in table.items()},
        worst=worst(table),
        mean=float(right.mean()),
        energy=float(energies.mean()),
        threshold=conformal_threshold(energies, target_fpr)[0],
        flagged=_flagged(energies, energies, halves, target_fpr),
        outliers=None if outliers is None else separation(energies, energies_of(head, outliers), rng=rng),
    )


def _flagged(thresholds_of: Float64s, energies: Float64s, halves: Halves, target_fpr: float) -> float:
    """Each half is held against the threshold that the other half sets."""
    flags = 0
    for own, other in (halves, halves[::-1]):
        flags += int((energies[own] > conformal_threshold(thresholds_of[other], target_fpr)[0]).sum())
    return flags / len(energies)
