"""Sets of images that an evaluation compares: image files, outputs in a file, stored samples. All are streamed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.ingest.image_files import label_index
from pipeline.ingest.outputs_file import FEATURES, LABELS, LOGITS, OutputsFile
from pipeline.ingest.thumbnail import thumbnail
from pipeline.records import Ints, Outputs
from pipeline.stages.files import score_files
from pipeline.stages.inference import Model, Score
from pipeline.stages.preparation import Preparation
from pipeline.storage.samples import StoredOutputs

THUMBNAIL_SIDE = 96
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Portion:
    """Some images of a set; row i of everything belongs to the same image."""

    outputs: Outputs  # features of shape (n, 0) where the set has none
    labels: Sequence[int | None]
    hashes: NDArray[np.uint64]  # of the content: equal images have equal ones
    names: Sequence[str]
    picture: Callable[[int], bytes | None]  # WebP of image i, made when asked for


class OutputSet(Protocol):
    """A named set of images with the model's outputs."""

    name: str

    @property
    def size(self) -> int:
        """Images, those that will fail included."""

    def portions(self, rows: Ints) -> Iterator[Portion]:
        """The images of these ascending row numbers."""


class ImageSet:
    """Image files, scored as the worker scores them. What cannot be scored is kept in `failed`."""

    def __init__(
        self,
        name: str,
        files: Sequence[tuple[Path, str | None]],
        classes: Sequence[str],
        preparation: Preparation,
        model: Model,
        score: Score,
        threads: int,
    ) -> None:
        self.name = name
        self.failed: list[tuple[Path, str]] = []
        self._files = files
        self._classes = classes
        self._parts = partial(score_files, preparation=preparation, model=model, score=score, threads=threads)

    @property
    def size(self) -> int:
        """Files."""
        return len(self._files)

    def portions(self, rows: Ints) -> Iterator[Portion]:
        """A batch at a time."""
        chosen = [self._files[row] for row in rows.tolist()]
        for scored in self._parts([path for path, _ in chosen]):
            self.failed += [(chosen[at][0], why) for at, why in scored.failed]
            images = scored.images
            yield Portion(
                outputs=scored.outputs,
                labels=[label_index(chosen[at][1], self._classes) for at in scored.files],
                hashes=_hashes(image.value_sha256 for image in images),
                names=[chosen[at][0].name for at in scored.files],
                picture=lambda i, images=images: thumbnail(images[i].pixels, THUMBNAIL_SIDE),  # type: ignore[misc]
            )


class FileSet:
    """Outputs in an .npz file: nothing is scored, no model is needed."""

    def __init__(self, name: str, file: OutputsFile) -> None:
        self.name = name
        self._file = file

    @property
    def size(self) -> int:
        """Rows."""
        return self._file.size

    def portions(self, rows: Ints) -> Iterator[Portion]:
        """A thousand rows at a time. Raises UsageError at the first row that is not finite."""
        wanted = np.zeros(self.size, np.bool_)
        wanted[rows] = True
        first = 0
        for arrays in self._file.portions(_ROWS):
            n = len(arrays[LOGITS])
            self._check_finite(arrays, first)
            at = np.flatnonzero(wanted[first : first + n])
            first += n
            if len(at):
                yield self._portion(arrays, at, first - n)

    def _portion(self, arrays: dict[str, NDArray[Any]], at: NDArray[np.intp], first: int) -> Portion:
        logits = np.ascontiguousarray(arrays[LOGITS][at], np.float32)
        features = arrays[FEATURES][at] if FEATURES in arrays else np.empty((len(at), 0))
        labels = arrays[LABELS][at].tolist() if LABELS in arrays else [None] * len(at)
        return Portion(
            outputs=Outputs(logits, np.ascontiguousarray(features, np.float32)),
            labels=[None if label is None or label < 0 else int(label) for label in labels],
            hashes=_hashes(hashlib.sha256(row.tobytes()).digest() for row in logits),
            names=[f"row {first + row}" for row in at.tolist()],
            picture=lambda i: None,
        )

    def _check_finite(self, arrays: dict[str, NDArray[Any]], first: int) -> None:
        for name in (LOGITS, FEATURES):
            if name in arrays and not (finite := np.isfinite(arrays[name]).all(axis=1)).all():
                row = first + int(np.flatnonzero(~finite)[0])
                raise UsageError(f"{self._file.path}: `{name}` of row {row} holds NaN or infinity; leave such rows out")


class SampleSet:
    """Random samples that the worker kept: float16, so energies are off by some 0.005 nat."""

    def __init__(
        self, name: str, size: int, read: Callable[[], Iterator[StoredOutputs]], classes: Sequence[str] | None
    ) -> None:
        self.name = name
        self._size = size
        self._read = read
        self._classes = classes or ()

    @property
    def size(self) -> int:
        """Samples."""
        return self._size

    def portions(self, rows: Ints) -> Iterator[Portion]:
        """A thousand samples at a time."""
        wanted = set(rows.tolist())
        chosen: list[StoredOutputs] = []
        for row, sample in enumerate(self._read()):
            if row in wanted:
                chosen.append(sample)
            if len(chosen) == _ROWS:
                yield self._portion(chosen)
                chosen = []
        if chosen:
            yield self._portion(chosen)

    def _portion(self, samples: list[StoredOutputs]) -> Portion:
        return Portion(
            outputs=Outputs(
                np.stack([np.frombuffer(sample.logits, "<f2") for sample in samples]).astype(np.float32),
                np.stack([np.frombuffer(sample.features, "<f2") for sample in samples]).astype(np.float32),
            ),
            labels=[label_index(sample.label, self._classes) for sample in samples],
            hashes=_hashes(sample.value_sha256 for sample in samples),
            names=[sample.name for sample in samples],
            picture=lambda i: samples[i].thumbnail,
        )


def _hashes(digests: Iterator[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(digest[:8] for digest in digests), np.uint64)
