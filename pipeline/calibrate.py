"""Calibration: in-distribution images → Reference.

    files → prepared images → logits, features → scores → threshold, edges, feature statistics → Reference

The threshold is an order statistic of the scores (split conformal): its flag rate is known in
distribution, whatever the model. Nothing here learns from production.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from pipeline.errors import RefusedError
from pipeline.ingest.decode import DECODER
from pipeline.ingest.thumbnail import thumbnail
from pipeline.records import Float32s, Float64s, Reference, ReferenceImage
from pipeline.shift.histogram import fine_edges, rank_edges
from pipeline.shift.threshold import conformal_threshold, flag_rate_bounds
from pipeline.stages.files import ScoredFiles, score_files
from pipeline.stages.inference import Model, Score
from pipeline.stages.preparation import Preparation

MAX_REFERENCE_IMAGES = 2_000
PROJECTED_DIMENSIONS = 16
REFERENCE_THUMBNAIL_SIDE = 96


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks of a calibration."""

    model_name: str
    model_id: str
    classes: tuple[str, ...]
    dtype: str
    temperature: float
    target_fpr: float
    representative: bool
    keep_pictures: bool
    version: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """The reference, and the files that could not be used."""

    reference: Reference
    failed: tuple[tuple[Path, str], ...]
    duplicates: int  # images whose bytes occurred before: they carry no new evidence


@dataclass(slots=True)
class _Sums:
    """What is kept of all images: scores, and sums of features."""

    scores: list[Float64s]
    class_counts: Float64s
    n: int
    feature_sum: Float64s
    feature_products: Float64s


def calibrate(
    files: Sequence[tuple[Path, str | None]],
    request: Request,
    preparation: Preparation,
    model: Model,
    score: Score,
    *,
    now: datetime,
    rng: np.random.Generator,
    threads: int = 2,
    progress: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Make a reference from (file, label) pairs of in-distribution images.

    Raises RefusedError where the images are too few for the threshold that was asked for.
    """
    chosen = set(rng.permutation(len(files))[:MAX_REFERENCE_IMAGES].tolist())
    kept: list[_KeptImage] = []
    failed: list[tuple[Path, str]] = []
    hashes: set[bytes] = set()
    sums: _Sums | None = None
    paths = [path for path, _ in files]
    for scored in score_files(paths, preparation, model, score, threads=threads):
        failed += [(paths[index], why) for index, why in scored.failed]
        if scored.images:
            sums = _add(sums, scored, len(request.classes))
            hashes |= {image.value_sha256 for image in scored.images}
            kept += _keep(scored, chosen, files, request.keep_pictures)
        progress(len(scored.files) + len(scored.failed))
    if sums is None:
        why = f"; the first: {failed[0][0]}: {failed[0][1]}" if failed else ""
        raise RefusedError(f"none of {len(files)} files is an image that the model can score{why}")
    reference = _reference(request, sums, kept, now)
    return Calibration(reference, tuple(failed), sums.n - len(hashes))


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


def _add(sums: _Sums | None, scored: ScoredFiles, n_classes: int) -> _Sums:
    features = scored.outputs.features.astype(np.float64)
    if sums is None:
        dimensions = features.shape[1]
        sums = _Sums([], np.zeros(n_classes), 0, np.zeros(dimensions), np.zeros((dimensions, dimensions)))
    sums.scores.append(scored.scores.score)
    sums.class_counts += np.bincount(scored.scores.class_index, minlength=n_classes)
    sums.n += len(scored.images)
    sums.feature_sum += features.sum(axis=0)
    sums.feature_products += features.T @ features
    return sums


def _keep(
    scored: ScoredFiles, chosen: set[int], files: Sequence[tuple[Path, str | None]], pictures: bool
) -> list[_KeptImage]:
    return [
        _KeptImage(
            file=files[index][0].name,
            label=files[index][1],
            sha256=image.value_sha256,
            energy=float(scored.scores.energy[i]),
            score=float(scored.scores.score[i]),
            class_index=int(scored.scores.class_index[i]),
            features=scored.outputs.features[i],
            thumbnail=thumbnail(image.pixels, REFERENCE_THUMBNAIL_SIDE) if pictures else None,
        )
        for i, (index, image) in enumerate(zip(scored.files, scored.images, strict=True))
        if index in chosen
    ]


def _reference(request: Request, sums: _Sums, kept: Sequence[_KeptImage], now: datetime) -> Reference:
    scores = np.sort(np.concatenate(sums.scores))
    threshold, rank = conformal_threshold(scores, request.target_fpr)
    p0_low, p0_high = flag_rate_bounds(sums.n, rank)
    mean = sums.feature_sum / sums.n
    covariance = sums.feature_products / sums.n - np.outer(mean, mean)
    projection = principal_axes(covariance, PROJECTED_DIMENSIONS)
    return Reference(
        name=f"{request.model_name}-r{request.version}",
        version=request.version,
        model_name=request.model_name,
        model_id=request.model_id,
        classes=request.classes,
        decoder=DECODER,
        dtype=request.dtype,
        score_name="energy",
        temperature=request.temperature,
        target_fpr=request.target_fpr,
        n=sums.n,
        rank=rank,
        threshold=threshold,
        p0_low=p0_low,
        p0_high=p0_high,
        representative=request.representative,
        created_at=now,
        scores=scores,
        edges=rank_edges(scores),
        fine_edges=fine_edges(scores),
        class_counts=sums.class_counts.astype(np.int64),
        feature_mean=mean,
        projection=projection,
        projected_mean=np.zeros(projection.shape[1]),
        projected_covariance=projection.T @ covariance @ projection,
        images=tuple(
            ReferenceImage(
                file=image.file,
                label=image.label,
                sha256=image.sha256,
                energy=image.energy,
                score=image.score,
                class_index=image.class_index,
                projected=((image.features - mean) @ projection).astype(np.float32),
                thumbnail=image.thumbnail,
            )
            for image in kept
        ),
    )


def principal_axes(covariance: Float64s, dimensions: int) -> Float64s:
    """The `dimensions` eigenvectors of largest eigenvalue, as columns; shape (D, d), d = min(dimensions, D).

    Signs are fixed (the largest component of each is positive), so the same images give the same axes.
    """
    _, vectors = np.linalg.eigh(covariance)
    axes = vectors[:, ::-1][:, :dimensions]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.ascontiguousarray(axes * signs)
