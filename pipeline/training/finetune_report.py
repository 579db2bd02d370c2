"""Before and after a fine-tuning, by the figures of `oodwatch evaluate`."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from pipeline.scoring.evaluation import Separation
from pipeline.training.groups import WORSE_BY


@dataclass(frozen=True, slots=True)
class Side:
    """One model on images that the training did not use."""

    model: str
    accuracy: float | None  # where labels exist
    energy: float  # mean of the normal images, nats
    threshold: float  # conformal, nats
    sets: Mapping[str, Separation]  # by OOD set

    @property
    def fpr95(self) -> float:
        """Mean over the sets."""
        return fmean(figures.fpr95 for figures in self.sets.values())

    @property
    def auroc(self) -> float:
        """Mean over the sets."""
        return fmean(figures.auroc for figures in self.sets.values())


@dataclass(frozen=True, slots=True)
class FinetuneReport:
    """What a person decides by."""

    n: int  # normal images
    before: Side
    after: Side

    @property
    def worse(self) -> str | None:
        """Why this is no repair; None where it is one."""
        before, after = self.before, self.after
        if before.accuracy is not None and after.accuracy is not None and after.accuracy < before.accuracy - WORSE_BY:
            return f"accuracy falls from {before.accuracy:.1%} to {after.accuracy:.1%}"
        if after.auroc < before.auroc:
            return f"the energy's AUROC falls from {before.auroc:.1%} to {after.auroc:.1%}"
        return None
