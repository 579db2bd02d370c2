"""An old and a new model on the same images: what changes for those who are paged. Pure NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Scores
from pipeline.shift.threshold import NO_ALERTS_BELOW, clopper_pearson, conformal_threshold
from pipeline.training.groups import WORSE_BY

FEWEST = NO_ALERTS_BELOW  # images to compare by, and labels to compare accuracies by


@dataclass(frozen=True, slots=True)
class Side:
    """One model with its reference."""

    model: str
    reference: str
    threshold: float  # nats
    flagged: float  # share of the images above it
    low: float  # its 95 % interval, as if the images were independent
    high: float
    accuracy: float | None  # where enough images are labelled
    energy: float  # mean, nats


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a person decides by."""

    n: int  # images that both have scored
    labelled: int
    old: Side
    new: Side
    disagreement: float  # share of images that they give two classes
    flags_differ: float  # share that one flags and the other does not
    flagged_by_old_threshold: float  # share that the new model would put above the old threshold
    suggested_threshold: float | None  # of the new model, by enough images: the old reference's share is above it
    against: tuple[str, ...]  # why not to promote it; none: go

    @property
    def go(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.against


@dataclass(frozen=True, slots=True)
class Judged:
    """One model's scores, and what it holds them against."""

    model: str
    reference: str
    threshold: float
    scores: Scores

    def flags(self) -> NDArray[np.bool_]:
        """Score > threshold, (n,)."""
        return self.scores.score > self.threshold


def compare(
    old: Judged,
    new: Judged,
    labels: Sequence[int | None],
    *,
    target_fpr: float,
    warning: float,
    against: Sequence[str],
) -> Comparison:
    """Row i of both scores is the same image.

    Args:
        target_fpr: of the old reference.
        warning: the share of flagged images at which the monitor warns.
        against: what is known to speak against the new one already.
    """
    n = len(labels)
    before, after = _side(old, labels), _side(new, labels)
    return Comparison(
        n=n,
        labelled=sum(label is not None for label in labels),
        old=before,
        new=after,
        disagreement=float((old.scores.class_index != new.scores.class_index).mean()),
        flags_differ=float((old.flags() != new.flags()).mean()),
        flagged_by_old_threshold=float((new.scores.score > old.threshold).mean()),
        suggested_threshold=conformal_threshold(new.scores.score, target_fpr)[0] if n >= FEWEST else None,
        against=(*against, *_found(before, after, n, warning)),
    )


def _side(judged: Judged, labels: Sequence[int | None]) -> Side:
    flags = int(judged.flags().sum())
    low, high = clopper_pearson(flags, len(labels))
    return Side(
        model=judged.model,
        reference=judged.reference,
        threshold=judged.threshold,
        flagged=flags / len(labels),
        low=low,
        high=high,
        accuracy=_accuracy(judged.scores.class_index.tolist(), labels),
        energy=float(judged.scores.energy.mean()),
    )


def _accuracy(answers: Sequence[int], labels: Sequence[int | None]) -> float | None:
    right = [answer == label for answer, label in zip(answers, labels, strict=True) if label is not None]
    return sum(right) / len(right) if len(right) >= FEWEST else None


def _found(old: Side, new: Side, n: int, warning: float) -> list[str]:
    """What speaks against the new one on these images."""
    against = []
    if n < FEWEST:
        against.append(f"{n} images are too few to compare by, {FEWEST} are needed")
    if new.low >= warning > old.flagged:
        against.append(
            f"it flags {new.flagged:.1%} of these images, and the monitor warns at {warning:.0%}: if they are normal"
            " traffic, calibrate it on images like them; if not, compare on images that are"
        )
    if old.accuracy is not None and new.accuracy is not None and new.accuracy < old.accuracy - WORSE_BY:
        against.append(f"its accuracy is {new.accuracy:.1%}, the old one's {old.accuracy:.1%}")
    return against
