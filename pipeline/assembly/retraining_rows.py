"""Where the rows of a retraining come from: a file of features, image files, or stored samples."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from pipeline.assembly.parts import ModelParts, energy_score
from pipeline.errors import RefusedError, UsageError
from pipeline.ingest.features_file import check_features, read_features
from pipeline.ingest.groups_file import OUTLIER, GroupLine, read_groups
from pipeline.ingest.image_files import find_images, label_index, labelled_images
from pipeline.records import Float64s, Ints
from pipeline.stages.files import score_files
from pipeline.storage.engine import reading, translated_errors
from pipeline.storage.samples import LabelledFeatures, sample_features


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Labelled rows, and outliers that came with them; hashes tell equal images."""

    features: Float64s  # (n, D)
    labels: Ints  # (n,); −1 where a file holds a number that is no class
    attributes: tuple[str, ...]
    hashes: tuple[bytes, ...]
    outliers: Float64s  # (m, D)
    outlier_hashes: tuple[bytes, ...]
    left_out: Counter[str]  # why, and how many


def rows_of_file(path: Path, parts: ModelParts, width: int) -> Found:
    """`x`, `y` and `g` of an .npz. Raises UsageError, and RefusedError for another model's features."""
    file = read_features(path)
    check_features(file, path, parts.package.model_id, width)
    if file.labels is None or file.groups is None:
        raise UsageError(f"{path}: needs `y`, the classes' numbers, and `g`, the groups, beside `x`")
    nothing = np.empty((0, width))
    return Found(file.features, file.labels, file.groups, _row_hashes(file.features), nothing, (), Counter())


def rows_of_images(folder: Path, groups: Path, parts: ModelParts, threads: int) -> Found:
    """Image files with a CSV of `file`, `group` and perhaps `label`; class folders give the label otherwise.

    Raises RefusedError for lines that name no image of the folder, and for labels that are no class.
    """
    said = read_groups(groups, "file")
    files = {found.relative: found for found in find_images([folder])}
    _check_known(groups, "files", [name for name in said if name not in files], len(said), f"under {folder}")
    lines = [(files[name], line) for name, line in said.items()]
    labels = [line.label or (found.parent if "/" in found.relative else None) for found, line in lines]
    _check_labels(str(groups), labels, parts.package.spec.classes)
    features, hashes, kept = _features([found.path for found, _ in lines], parts, threads)
    left_out = Counter({"could not be scored": len(lines) - len(kept), "not in the CSV": len(files) - len(lines)})
    return _share_out(
        features,
        [labels[row] for row in kept],
        [lines[row][1].group for row in kept],
        hashes,
        parts.package.spec.classes,
        left_out,
    )


def stored_rows(
    engine: Engine,
    deployment: str,
    start: datetime | None,
    end: datetime | None,
    groups: Path | None,
    parts: ModelParts,
    width: int,
) -> Found:
    """What the worker kept: labels of the messages, segments as groups; or labels and groups of a CSV by `id`.

    Without a CSV only random samples are taken: the strange ones were chosen by their score. Raises
    RefusedError for samples of another model, and for ids that no sample has.
    """
    with translated_errors(engine.url), reading(engine).connect() as conn:
        samples = list(sample_features(conn, deployment, start, end))
    if not samples:
        raise UsageError(
            f"no sample with features of deployment {deployment} lies between --from and --to; a worker keeps them"
            " with samples.pictures = true"
        )
    _check_model(samples, deployment, parts.package.model_id, width)
    if groups is None:
        said = [GroupLine(sample.label, sample.segment) for sample in samples]
        wanted = [row for row, sample in enumerate(samples) if sample.is_random and sample.label is not None]
    else:
        lines = read_groups(groups, "id")
        known = {sample.id for sample in samples}
        _check_known(groups, "ids", [name for name in lines if name not in known], len(lines), "among the samples")
        said = [lines.get(sample.id or "", GroupLine(None, "")) for sample in samples]
        said = [GroupLine(line.label or sample.label, line.group) for line, sample in zip(said, samples, strict=True)]
        wanted = [row for row, sample in enumerate(samples) if sample.id in lines]
    labels = [said[row].label for row in wanted]
    _check_labels(f"deployment {deployment}", labels, parts.package.spec.classes)
    chosen = [samples[row] for row in wanted]
    return _share_out(
        np.array([np.frombuffer(sample.features, "<f2") for sample in chosen], np.float64).reshape(-1, width),
        labels,
        [said[row].group for row in wanted],
        tuple(sample.value_sha256 for sample in chosen),
        parts.package.spec.classes,
        Counter({"without a label, or kept for their score": len(samples) - len(chosen)}),
    )


def outlier_rows(path: Path, parts: ModelParts, width: int, threads: int) -> tuple[Float64s, tuple[bytes, ...]]:
    """Features and hashes of reviewed outliers: `x` of an .npz, or image files."""
    if path.suffix == ".npz":
        file = read_features(path)
        check_features(file, path, parts.package.model_id, width)
        if not np.isfinite(file.features).all():
            raise RefusedError(f"{path}: `x` holds NaN or infinity; leave such rows out")
        return file.features, _row_hashes(file.features)
    features, hashes, _ = _features([file for file, _ in labelled_images(path)], parts, threads)
    return features, hashes


def _features(paths: Sequence[Path], parts: ModelParts, threads: int) -> tuple[Float64s, tuple[bytes, ...], list[int]]:
    """Features, hashes and numbers of the files that could be scored."""
    features: list[Float64s] = []
    hashes: list[bytes] = []
    kept: list[int] = []
    for scored in score_files(paths, parts.preparation, parts.classifier, energy_score(1.0), threads=threads):
        if scored.images:
            features.append(scored.outputs.features.astype(np.float64))
            hashes += [image.value_sha256 for image in scored.images]
            kept += scored.files
    if not features:
        raise RefusedError(f"none of {len(paths)} files is an image that the model can score")
    return np.concatenate(features), tuple(hashes), kept


def _share_out(
    features: Float64s,
    labels: Sequence[str | None],
    attributes: Sequence[str],
    hashes: Sequence[bytes],
    classes: Sequence[str],
    left_out: Counter[str],
) -> Found:
    """Labelled rows here, outliers there."""
    far = np.array([label == OUTLIER for label in labels], np.bool_)
    near = np.flatnonzero(~far).tolist()
    return Found(
        features=features[~far],
        labels=np.array([label_index(labels[row], classes) for row in near], np.int64),
        attributes=tuple(attributes[row] for row in near),
        hashes=tuple(hashes[row] for row in near),
        outliers=features[far],
        outlier_hashes=tuple(hashes[row] for row in np.flatnonzero(far).tolist()),
        left_out=left_out,
    )


def _check_known(groups: Path, what: str, unknown: Sequence[str], n: int, where: str) -> None:
    if unknown:
        raise RefusedError(
            f"{groups}: {len(unknown):,} of {n:,} {what} are not {where} (first: {unknown[0]}); take those lines"
            " out, or mend them"
        )


def _check_labels(where: str, labels: Sequence[str | None], classes: Sequence[str]) -> None:
    unknown = [label for label in labels if label != OUTLIER and label_index(label, classes) is None]
    if unknown:
        raise RefusedError(
            f"{where}: {len(unknown):,} of {len(labels):,} labels are no class of the model (first: {unknown[0]!r});"
            f" classes are {', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}, and {OUTLIER} for outliers"
        )


def _check_model(samples: Sequence[LabelledFeatures], deployment: str, model_id: str, width: int) -> None:
    others = Counter(sample.model_id for sample in samples if sample.model_id != model_id)
    if others:
        raise RefusedError(
            f"{others.total():,} of {len(samples):,} samples of deployment {deployment} come from model"
            f" {others.most_common(1)[0][0]}, not from {model_id}: narrow --from and --to to this model's time"
        )
    found = len(samples[0].features) // 2
    if any(len(sample.features) != 2 * width for sample in samples):
        raise RefusedError(f"samples of {deployment} hold {found} features, the head of {model_id} takes {width}")


def _row_hashes(features: Float64s) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(row.tobytes()).digest() for row in features)
