"""What a reference keeps of its images: all scores, sums of features, and up to 2,000 images as statistics."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.ingest.thumbnail import thumbnail
from pipeline.records import Float32s, Float64s, Ints, ReferenceImage
from pipeline.stages.files import ScoredFiles

REFERENCE_THUMBNAIL_SIDE = 96


@dataclass(frozen=True, slots=True)
class _KeptImage:
    file: str
    label: str | None
    sha256: bytes
    energy: float
    score: float
    class_index: int
    features: Float32s
    thumbnail: bytes | None
    msp: float


@dataclass(slots=True)
class ReferenceSums:
    """Grows batch by batch; memory is bounded but for 8 bytes a score."""

    n_classes: int
    keep_pictures: bool
    n: int = 0
    scores: list[Float64s] = field(default_factory=list)
    class_counts: Ints = field(init=False)
    feature_sum: Float64s = field(init=False)
    feature_products: Float64s = field(init=False)
    kept: list[_KeptImage] = field(default_factory=list)

    def add(
        self, scored: ScoredFiles, scores: Float64s, files: Sequence[tuple[Path, str | None]], chosen: Set[int]
    ) -> None:
        """Count a batch; `scores` are what the reference's quantile uses, `chosen` the files kept with it."""
        features = scored.outputs.features.astype(np.float64)
        if not self.n:
            dimensions = features.shape[1]
            self.class_counts = np.zeros(self.n_classes, np.int64)
            self.feature_sum = np.zeros(dimensions)
            self.feature_products = np.zeros((dimensions, dimensions))
        self.n += len(scored.images)
        self.scores.append(scores)
        self.class_counts += np.bincount(scored.scores.class_index, minlength=self.n_classes)
        self.feature_sum += features.sum(axis=0)
        self.feature_products += features.T @ features
        for i, (index, image) in enumerate(zip(scored.files, scored.images, strict=True)):
            if index in chosen:
                path, label = files[index]
                self.kept.append(
                    _KeptImage(
                        file=path.name,
                        label=label,
                        sha256=image.value_sha256,
                        energy=float(scored.scores.energy[i]),
                        score=float(scores[i]),
                        class_index=int(scored.scores.class_index[i]),
                        features=scored.outputs.features[i],
                        thumbnail=thumbnail(image.pixels, REFERENCE_THUMBNAIL_SIDE) if self.keep_pictures else None,
                        msp=float(scored.scores.msp[i]),
                    )
                )

    @property
    def mean(self) -> Float64s:
        """Of the features, shape (D,)."""
        return self.feature_sum / self.n

    @property
    def covariance(self) -> Float64s:
        """Of the features, shape (D, D), divisor n."""
        return self.feature_products / self.n - np.outer(self.mean, self.mean)

    def images(self, projection: Float64s) -> tuple[ReferenceImage, ...]:
        """The kept images, their features projected about the mean."""
        mean = self.mean
        return tuple(
            ReferenceImage(
                file=image.file,
                label=image.label,
                sha256=image.sha256,
                energy=image.energy,
                score=image.score,
                class_index=image.class_index,
                projected=((image.features - mean) @ projection).astype(np.float32),
                thumbnail=image.thumbnail,
                msp=image.msp,
            )
            for image in self.kept
        )


def principal_axes(covariance: Float64s, dimensions: int) -> Float64s:
    """The `dimensions` eigenvectors of largest eigenvalue, as columns; shape (D, d), d = min(dimensions, D).

    Signs are fixed (the largest component of each is positive), so the same images give the same axes.
    """
    _, vectors = np.linalg.eigh(covariance)
    axes = vectors[:, ::-1][:, :dimensions]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.ascontiguousarray(axes * signs)
