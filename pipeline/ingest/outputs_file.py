"""Model outputs in an .npz file, read a portion at a time: memory does not grow with the file."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

LOGITS, FEATURES, LABELS = "logits", "features", "labels"


class OutputsFile:
    """`logits` (n, K) and, where there are, `labels` (n,) and `features` (n, D).

    Raises UsageError where the file cannot be read or its arrays do not fit each other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as archive:
            self._shapes = {
                name: _shape(archive, name, path)
                for name in (LOGITS, FEATURES, LABELS)
                if f"{name}.npy" in archive.namelist()
            }
            if LOGITS not in self._shapes:
                held = ", ".join(name.removesuffix(".npy") for name in archive.namelist()) or "nothing"
                raise UsageError(f"{path}: no array `logits` in it, it holds {held}; save logits of shape (n, classes)")
        for name, dimensions in ((LOGITS, 2), (FEATURES, 2), (LABELS, 1)):
            shape = self._shapes.get(name)
            if shape is not None and (len(shape) != dimensions or shape[0] != self.size):
                raise UsageError(
                    f"{path}: `{name}` has shape {shape}; {dimensions} dimensions and {self.size:,} rows are needed"
                )

    @property
    def size(self) -> int:
        """Rows."""
        return self._shapes[LOGITS][0]

    @property
    def names(self) -> frozenset[str]:
        """Which arrays there are."""
        return frozenset(self._shapes)

    def portions(self, rows: int) -> Iterator[dict[str, NDArray[Any]]]:
        """The arrays, so many rows at a time, in order."""
        with self._opened() as archive:
            streams = {name: archive.open(f"{name}.npy") for name in self._shapes}
            headers = {name: _header(stream, self.path, name) for name, stream in streams.items()}
            for first in range(0, self.size, rows):
                n = min(rows, self.size - first)
                yield {name: self._read(streams[name], *headers[name], n) for name in streams}

    def _read(self, stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], n: int) -> NDArray[Any]:
        width = int(np.prod(shape[1:], dtype=np.int64))
        value = stream.read(n * width * dtype.itemsize)
        if len(value) != n * width * dtype.itemsize:
            raise UsageError(f"{self.path}: ends in the middle of an array; write it again")
        return np.frombuffer(value, dtype).reshape(n, *shape[1:])

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror or error}") from error
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise UsageError(f"{self.path}: no .npz file ({error}); write it with numpy.savez") from error


def _shape(archive: zipfile.ZipFile, name: str, path: Path) -> tuple[int, ...]:
    with archive.open(f"{name}.npy") as stream:
        return _header(stream, path, name)[0]


def _header(stream: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise UsageError(f"{path}: `{name}` is no array ({error}); write it with numpy.savez") from error
    if dtype.kind not in "fiu" or (fortran and len(shape) > 1):
        what = "in Fortran order" if fortran else f"of {dtype}"
        raise UsageError(f"{path}: `{name}` is {what}; save plain C-ordered numbers, as float32")
    return shape, dtype
