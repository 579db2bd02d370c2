"""Does it matter: accuracy, estimated without labels, and counted where labels came.

Without labels, average thresholded confidence (Garg et al. 2022, "Leveraging unlabeled data to predict
out-of-distribution performance"): a threshold t on the maximum softmax probability such that on the n labelled
images of the reference

    #{msp ≥ t} = #{right},     and then   accuracy now ≈ share of the images now with msp ≥ t.

It orders damage well and is optimistic where damage is bad (CIFAR-10, blurred: true .20, estimated .45): an
upper figure, "at most".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Float64s
from pipeline.shift.threshold import clopper_pearson

#: Fewer labelled images say too little about a threshold.
LEAST_LABELLED = 50


@dataclass(frozen=True, slots=True)
class Confidence:
    """What the reference's labelled images say of confidence."""

    threshold: float  # of the maximum softmax probability
    accuracy: float  # of the reference's images
    n: int


@dataclass(frozen=True, slots=True)
class Proportion:
    """k of n with its exact 95 % interval, d images counting as one."""

    k: float
    n: float
    low: float
    high: float

    @property
    def share(self) -> float:
        """k/n."""
        return self.k / self.n


@dataclass(frozen=True, slots=True)
class LabelledCount:
    """Images with known labels, of one segment, flagged or not."""

    segment: str
    is_ood: bool
    n: int
    right: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """Accuracy from labels."""

    source: Literal["labels", "header"]  # given later, or by the producer
    all: Proportion
    flagged: Proportion | None  # among flagged images; None: none of them has a label
    unflagged: Proportion | None
    segments: Mapping[str, Proportion]


@dataclass(frozen=True, slots=True)
class Matters:
    """Whether the shift does harm."""

    reference_accuracy: float | None
    at_most: Proportion | None  # estimated accuracy now
    labelled: Labelled | None
    because: str  # why there is no estimate; empty where there is


def confidence_threshold(msp: Float64s, right: NDArray[np.bool_]) -> Confidence | None:
    """t as above, from n labelled images; None below 50. With ties at t, at least as many lie at or above it."""
    n, wrong = len(msp), int((~right).sum())
    if n < LEAST_LABELLED:
        return None
    ordered = np.append(np.sort(msp), np.inf)
    return Confidence(float(ordered[wrong]), 1 - wrong / n, n)


def estimated(confidence: Confidence, msp: Float64s, d: float = 1.0) -> Proportion | None:
    """Accuracy of images with these confidences, at most; None for no image."""
    return proportion(int((msp >= confidence.threshold).sum()), len(msp), d)


def proportion(k: float, n: float, d: float = 1.0) -> Proportion | None:
    """None for n = 0: no data is not 0 %."""
    return Proportion(k, n, *clopper_pearson(k / d, n / d)) if n > 0 else None


def from_labels(
    counts: Sequence[LabelledCount], source: Literal["labels", "header"], d: float = 1.0
) -> Labelled | None:
    """Accuracy of all, among flagged and other images, and by segment; None where no image has a label."""
    everything = _sum(counts, d)
    if everything is None:
        return None
    segments = {name: _sum((one for one in counts if one.segment == name), d) for name in {c.segment for c in counts}}
    return Labelled(
        source,
        everything,
        _sum((one for one in counts if one.is_ood), d),
        _sum((one for one in counts if not one.is_ood), d),
        {name: found for name, found in sorted(segments.items()) if found is not None},
    )


def _sum(counts: Iterable[LabelledCount], d: float) -> Proportion | None:
    chosen = list(counts)
    return proportion(sum(one.right for one in chosen), sum(one.n for one in chosen), d)
