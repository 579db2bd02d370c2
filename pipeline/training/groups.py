"""Groups of labelled images: a class together with an attribute, as a camera. Pure NumPy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RefusedError
from pipeline.records import Float64s, Ints

MIN_GROUP = 20  # rows; with fewer, a held-out share says nothing
WORSE_BY = 0.01  # of mean accuracy: what a repair may cost
HELD_OUT = 0.3  # of every group: reports come from rows that nothing was fitted on
_Z = 1.959964  # 95 %, two-sided


@dataclass(frozen=True, slots=True)
class GroupAccuracy:
    """Right answers in one group of the held-out rows, with Wilson's 95 % interval."""

    n: int
    accuracy: float
    low: float
    high: float


def hold_out(groups: Ints, share: float, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Row numbers (kept, held out), ascending: at random, of every group ⌈share · n⌉ rows are held out."""
    held = np.zeros(len(groups), np.bool_)
    for group in np.unique(groups):
        rows = rng.permutation(np.flatnonzero(groups == group))
        held[rows[: math.ceil(share * len(rows) - 1e-9)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def balanced_rows(groups: Ints, rng: np.random.Generator) -> Ints:
    """Row numbers of a random sample in which every group has as many rows as the smallest."""
    names, sizes = np.unique(groups, return_counts=True)
    chosen = [rng.choice(np.flatnonzero(groups == name), sizes.min(), replace=False) for name in names]
    return np.sort(np.concatenate(chosen))


def group_accuracies(right: NDArray[np.bool_], groups: Ints) -> dict[int, GroupAccuracy]:
    """Of each group that has rows."""
    table = {}
    for group in np.unique(groups).tolist():
        answers = right[groups == group]
        table[group] = GroupAccuracy(len(answers), float(answers.mean()), *wilson(int(answers.sum()), len(answers)))
    return table


def worst(table: Mapping[int, GroupAccuracy]) -> float:
    """The lowest accuracy of all groups."""
    return min(group.accuracy for group in table.values())


def wilson(k: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share with k of n >= 1."""
    share, z2 = k / n, _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """N labelled images by their features; row i of everything belongs to the same image."""

    features: Float64s  # (N, D), finite
    labels: Ints  # (N,), 0..K−1
    groups: Ints  # (N,), numbers of `names`
    names: tuple[str, ...]  # class / attribute

    def take(self, rows: Ints) -> "Rows":
        """Some of the rows."""
        return Rows(self.features[rows], self.labels[rows], self.groups[rows], self.names)


def make_rows(
    features: Float64s, labels: Ints, attributes: Sequence[str], classes: Sequence[str], *, drop_small: bool
) -> tuple[Rows, tuple[str, ...]]:
    """Rows grouped by class and attribute, and the names of the groups that were left out.

    Raises RefusedError for labels that are no class, features that are not finite, a group of fewer than 20
    rows (unless they are to be left out), and a class without rows, which a new head would lose.
    """
    _check_labels(labels, classes)
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise RefusedError(
            f"{(~finite).sum():,} of {len(features):,} rows of features hold NaN or infinity (first: row"
            f" {int(np.flatnonzero(~finite)[0])}); leave them out"
        )
    texts = np.array([f"{classes[label]} / {attribute}" for label, attribute in zip(labels, attributes, strict=True)])
    names, groups, sizes = np.unique(texts, return_inverse=True, return_counts=True)
    small = [f"{name} ({size})" for name, size in zip(names.tolist(), sizes.tolist(), strict=True) if size < MIN_GROUP]
    if small and not drop_small:
        raise RefusedError(
            f"{len(small)} of {len(names)} groups have fewer than {MIN_GROUP} rows: {', '.join(small[:5])}"
            f"{', ...' if len(small) > 5 else ''}; label more of them, or leave them out with --force"
        )
    kept = sizes[groups] >= MIN_GROUP
    absent = [name for number, name in enumerate(classes) if not (labels[kept] == number).any()]
    if absent:
        raise RefusedError(
            f"{len(absent)} of {len(classes)} classes have no rows: {', '.join(absent[:5])}"
            f"{', ...' if len(absent) > 5 else ''}; the new head would lose them, so add at least {MIN_GROUP} of each"
        )
    return Rows(features[kept], labels[kept], groups[kept].astype(np.int64), tuple(names.tolist())), tuple(small)


def _check_labels(labels: Ints, classes: Sequence[str]) -> None:
    unknown = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(unknown):
        raise RefusedError(
            f"{len(unknown):,} of {len(labels):,} labels are no class of the model (first: {labels[unknown[0]]} in row"
            f" {unknown[0]}); labels are 0 to {len(classes) - 1}"
        )
