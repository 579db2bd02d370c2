"""Where the features of a coverage report come from: a file, image files, stored samples, a stored reference."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from pipeline.assembly.parts import ModelParts, energy_score
from pipeline.errors import RefusedError, UsageError
from pipeline.ingest.features_file import read_feature_rows
from pipeline.ingest.image_files import labelled_images
from pipeline.ingest.thumbnail import thumbnail
from pipeline.records import DeadLetter, Float32s, Float64s, Reference
from pipeline.stages.coverage_report import ImageRows
from pipeline.stages.files import prepare_files, score_files
from pipeline.stages.reference_sums import REFERENCE_THUMBNAIL_SIDE
from pipeline.storage.coverage import WindowSample, window_samples
from pipeline.storage.monitoring import Watched
from pipeline.storage.references import reference_images

MAX_SAMPLES = 4_000  # of a window: more would cost and say no more


@dataclass(frozen=True, slots=True)
class Window:
    """Production as it is stored: start <= event time < end."""

    start: datetime
    end: datetime
    segment: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Features as the model gave them."""

    images: ImageRows
    model: str | None  # its id; None where a file does not say
    failed: tuple[tuple[Path, str], ...] = ()
    note: str | None = None


def rows_of_file(path: Path) -> Found:
    """Classes (`y`) or segments (`g`) are the groups."""
    file = read_feature_rows(path)
    n = len(file.rows)
    groups = file.groups or file.labels or (None,) * n
    return Found(ImageRows(path.stem, file.rows, [f"row {i}" for i in range(n)], groups), file.model)


def rows_of_images(path: Path, parts: ModelParts, threads: int, progress: Callable[[int], None]) -> Found:
    """A folder or a CSV; groups are its labels. Raises RefusedError where none can be scored."""
    files = labelled_images(path)
    paths = [file for file, _ in files]
    features: list[Float32s] = []
    hashes: list[bytes] = []
    kept: list[int] = []
    failed: list[tuple[Path, str]] = []
    for scored in score_files(paths, parts.preparation, parts.classifier, energy_score(1.0), threads=threads):
        if scored.images:
            features.append(scored.outputs.features)
            hashes += [image.value_sha256 for image in scored.images]
            kept += scored.files
        failed += [(paths[at], why) for at, why in scored.failed]
        progress(len(scored.files) + len(scored.failed))
    if not features:
        raise RefusedError(f"{path}: none of {len(files)} files is an image that the model can score")

    def picture(i: int) -> bytes | None:
        (item,) = prepare_files(paths, [kept[i]], parts.preparation)
        return None if isinstance(item, DeadLetter) else thumbnail(item.pixels, REFERENCE_THUMBNAIL_SIDE)

    images = ImageRows(
        name=path.name or str(path),
        rows=np.concatenate(features),
        names=[paths[at].name for at in kept],
        groups=[files[at][1] for at in kept],
        hashes=hashes,
        picture=picture,
    )
    return Found(images, parts.package.model_id, tuple(failed))


def rows_of_window(conn: Connection, deployment: Watched, window: Window, model_id: str | None) -> Found:
    """Random samples; groups are their segments. Those of another model are left out.

    Raises UsageError where there is none, RefusedError where all come from another model.
    """
    start, end = (f"{at:%Y-%m-%dT%H:%MZ}" for at in (window.start, window.end))
    samples = window_samples(conn, deployment.id, window.start, window.end, segment=window.segment, limit=MAX_SAMPLES)
    if not samples:
        where = f"segment {window.segment} of " if window.segment else ""
        raise UsageError(
            f"no random sample with features of {where}deployment {deployment.name} lies between {start} and {end};"
            " a worker keeps them with samples.pictures = true"
        )
    models = Counter(sample.model_id for sample in samples)
    newest = models.most_common(1)[0][0] if model_id is None else model_id
    own = [sample for sample in samples if sample.model_id == newest]
    if not own:
        raise RefusedError(
            f"the reference belongs to model {newest}, the images from {start} to {end} were scored by"
            f" {models.most_common(1)[0][0]}: features of two models cannot be compared; name a reference of that model"
        )
    note = f"{len(samples) - len(own)} samples of other models are left out" if len(own) < len(samples) else None
    return Found(_sampled(own, f"{deployment.name}, {start} to {end}"), newest, note=note)


def kept_rows(conn: Connection, reference: Reference) -> ImageRows:
    """The projected features of a reference's images; groups are their labels, else the model's answers.

    Raises RefusedError where it keeps none.
    """
    assert reference.id is not None
    images = reference_images(conn, reference.id)
    if not images:
        raise RefusedError(f"reference {reference.name} keeps no images; make a new one with `oodwatch calibrate`")
    rows: Float64s = np.stack([image.projected for image in images]).astype(np.float64)
    return ImageRows(
        name=reference.name,
        rows=rows,
        names=[image.file for image in images],
        groups=[image.label or reference.classes[image.class_index] for image in images],
        hashes=[image.sha256 for image in images],
        picture=lambda i: images[i].thumbnail,
    )


def _sampled(samples: Sequence[WindowSample], name: str) -> ImageRows:
    return ImageRows(
        name=name,
        rows=np.stack([np.frombuffer(sample.features, "<f2") for sample in samples]).astype(np.float32),
        names=[sample.name for sample in samples],
        groups=[sample.segment for sample in samples],
        hashes=[sample.value_sha256 for sample in samples],
        picture=lambda i: samples[i].thumbnail,
    )
