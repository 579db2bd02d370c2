"""The image sets of a fine-tuning: opened, checked against each other, shared out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import RefusedError
from pipeline.ingest.image_files import label_index, labelled_images
from pipeline.records import Ints
from pipeline.scoring.energy_bounded import MIN_OUTLIERS
from pipeline.stages.preparation import Preparation
from pipeline.training.groups import HELD_OUT, hold_out
from pipeline.training.image_bank import Survey, survey


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """Images by what they are used for; none has two uses."""

    normal: Survey  # trained on
    labels: Ints
    outliers: Survey  # trained on
    calibration: Survey  # normal, not trained on: report and reference
    others: dict[str, Survey]  # OOD, not trained on: report
    notes: tuple[str, ...]  # about what was read


@dataclass(frozen=True, slots=True)
class Named:
    """Where the sets are."""

    normal: Path
    outliers: Path
    calibration: Path | None  # None: a share of the normal images
    others: Sequence[tuple[str, Path]]


def open_sets(
    named: Named,
    classes: Sequence[str],
    preparation: Preparation,
    *,
    seed: int,
    threads: int,
    force: bool,
) -> Sets:
    """Read every file once.

    Raises RefusedError: labels that are no class, a class without images, too few outliers, outliers or
    evaluation images that are among the training's.
    """

    notes: list[str] = []

    def read(flag: str, path: Path) -> Survey:
        found = survey(labelled_images(path), preparation, threads=threads)
        notes.extend(f"skipped {file}: {why}" for file, why in found.failed[:3])
        more = f"; {len(found.failed):,} files cannot be used" if found.failed else ""
        again = f"; {found.repeats:,} repeats are used once" if found.repeats else ""
        notes.append(f"{flag} {path}: {len(found.paths):,} images{again}{more}")
        return found

    normal, outliers = read("--id", named.normal), read("--outliers", named.outliers)
    labels = _labels(normal, classes)
    _check_outliers(outliers, force)
    _check_apart("outliers", outliers, "--id images", normal)
    rng = np.random.default_rng((seed, 0))
    kept, held = hold_out(np.zeros(len(outliers.paths), np.int64), HELD_OUT, rng)
    trained_outliers, others = outliers.take(kept), {"outliers": outliers.take(held)}
    for name, path in named.others:
        others[name] = read(f"--ood {name}", path)
        _check_apart(f"--ood {name} images", others[name], "--outliers that are trained on", trained_outliers)
    if named.calibration is None:
        kept, held = hold_out(labels, HELD_OUT, rng)
        return Sets(normal.take(kept), labels[kept], trained_outliers, normal.take(held), others, tuple(notes))
    calibration = read("--calibration", named.calibration)
    _check_apart("--calibration images", calibration, "--id images, which are trained on", normal)
    return Sets(normal, labels, trained_outliers, calibration, others, tuple(notes))


def _labels(normal: Survey, classes: Sequence[str]) -> Ints:
    found = [label_index(label, classes) for label in normal.labels]
    unknown = [row for row, label in enumerate(found) if label is None]
    if unknown:
        raise RefusedError(
            f"--id: {len(unknown):,} of {len(found):,} images have no label that is a class of the model (first:"
            f" {normal.paths[unknown[0]]}, label {normal.labels[unknown[0]]!r}); use class folders, or a CSV with file"
            " and label"
        )
    labels = np.array([label for label in found if label is not None], np.int64)
    absent = [name for number, name in enumerate(classes) if number not in set(labels.tolist())]
    if absent:
        raise RefusedError(
            f"--id: {len(absent)} of {len(classes)} classes have no images: {', '.join(absent[:5])}"
            f"{', ...' if len(absent) > 5 else ''}; the model would forget them, so add some of each"
        )
    return labels


def _check_outliers(outliers: Survey, force: bool) -> None:
    n = len(outliers.paths)
    if n < 2 or (n < MIN_OUTLIERS and not force):
        raise RefusedError(
            f"--outliers: {n} images are too few to learn from and to judge by; at least {MIN_OUTLIERS} are needed,"
            " thousands are usual; add more, or insist with --force"
        )


def _check_apart(what: str, images: Survey, which: str, others: Survey) -> None:
    shared = images.shared_with(others)
    if shared:
        first, second = shared[0]
        raise RefusedError(
            f"{len(shared):,} of {len(images.paths):,} {what} are also {which} (first: {first} is {second}); an image"
            " cannot be both, take them out of one"
        )
