"""Images for training: read, decoded and cut as the worker does it, again for every step; memory does not grow."""

import hashlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import UsageError
from pipeline.records import DeadLetter, Ints, Pixels, PreparedImage
from pipeline.stages.files import prepare_files
from pipeline.stages.preparation import Preparation
from pipeline.training.batches import stream_rows
from pipeline.training.energy_finetuning import Batch, TrainingPlan

_CHUNK = 16  # files in one task
_NORMAL, _OUTLIERS = 3, 4  # which stream, beside the seed


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in a set of files: images by row, without repeats."""

    paths: tuple[Path, ...]
    labels: tuple[str | None, ...]
    hashes: tuple[bytes, ...]  # sha256 of the pixels that the model sees
    failed: tuple[tuple[Path, str], ...]
    repeats: int  # files whose pixels occurred before

    def take(self, rows: Ints) -> "Survey":
        """Some of the images."""
        chosen = rows.tolist()
        return Survey(
            tuple(self.paths[row] for row in chosen),
            tuple(self.labels[row] for row in chosen),
            tuple(self.hashes[row] for row in chosen),
            (),
            0,
        )

    def shared_with(self, other: "Survey") -> list[tuple[Path, Path]]:
        """Pairs of equal images, as (here, there)."""
        there = dict(zip(other.hashes, other.paths, strict=True))
        return [(path, there[digest]) for path, digest in zip(self.paths, self.hashes, strict=True) if digest in there]

    @property
    def files(self) -> list[tuple[Path, str | None]]:
        """(file, label) pairs, as calibration and evaluation take them."""
        return list(zip(self.paths, self.labels, strict=True))


def survey(
    files: Sequence[tuple[Path, str | None]],
    preparation: Preparation,
    *,
    threads: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Survey:
    """Read and decode every file once."""
    seen: dict[bytes, int] = {}
    failed: list[tuple[Path, str]] = []
    images = 0
    paths = [path for path, _ in files]
    with ThreadPoolExecutor(threads, thread_name_prefix="survey") as pool:
        chunks = [range(start, min(start + _CHUNK, len(files))) for start in range(0, len(files), _CHUNK)]
        for chunk, found in zip(chunks, pool.map(lambda rows: _digests(paths, rows, preparation), chunks), strict=True):
            for row, digest in zip(chunk, found, strict=True):
                if isinstance(digest, str):
                    failed.append((paths[row], digest))
                else:
                    images += 1
                    seen.setdefault(digest, row)
            progress(len(chunk))
    rows = list(seen.values())
    return Survey(
        tuple(paths[row] for row in rows),
        tuple(files[row][1] for row in rows),
        tuple(seen),
        tuple(failed),
        images - len(rows),
    )


def training_batches(
    normal: Survey,
    labels: Ints,
    outliers: Survey,
    plan: TrainingPlan,
    preparation: Preparation,
    *,
    start: int,
    threads: int,
) -> Generator[Batch, None, None]:
    """The batches of steps start..steps−1, each read while the one before is trained on.

    Raises UsageError for a file that was an image when it was surveyed and is none any more.
    """
    paths = [*normal.paths, *outliers.paths]

    def rows_of(step: int) -> tuple[Ints, Ints]:
        first = step * plan.batch
        return (
            stream_rows(len(normal.paths), first, plan.batch, (plan.seed, _NORMAL)),
            stream_rows(len(outliers.paths), first, plan.batch, (plan.seed, _OUTLIERS)),
        )

    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:

        def begin(step: int) -> list[Future[list[Pixels]]]:
            ours, others = rows_of(step)
            rows = [*ours.tolist(), *(others + len(normal.paths)).tolist()]
            return [
                pool.submit(_pixels, paths, rows[at : at + _CHUNK], preparation) for at in range(0, len(rows), _CHUNK)
            ]

        ahead = begin(start) if start < plan.steps else []
        for step in range(start, plan.steps):
            images = np.stack([image for future in ahead for image in future.result()])
            ahead = begin(step + 1) if step + 1 < plan.steps else []
            yield Batch(images[: plan.batch], labels[rows_of(step)[0]], images[plan.batch :])


def _digests(paths: Sequence[Path], rows: range, preparation: Preparation) -> list[bytes | str]:
    prepared = prepare_files(paths, rows, preparation)
    return [
        item.error if isinstance(item, DeadLetter) else hashlib.sha256(item.pixels.tobytes()).digest()
        for item in prepared
    ]


def _pixels(paths: Sequence[Path], rows: Sequence[int], preparation: Preparation) -> list[Pixels]:
    pixels: list[Pixels] = []
    for row, item in zip(rows, prepare_files(paths, rows, preparation), strict=True):
        if not isinstance(item, PreparedImage):
            raise UsageError(f"{paths[row]}: {item.error}; it was an image when the training began")
        pixels.append(item.pixels)
    return pixels
