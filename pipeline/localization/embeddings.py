"""What a segmenter's encoder said about a picture, kept on disk: a click then costs a decode.

One file a picture and model, named by both hashes; read and written whole. The files are the
picture in another form: who erases a picture erases them as well.
"""

import logging
import os
import re
import tempfile
from pathlib import Path

import numpy as np

from pipeline.records import Float32s

logger = logging.getLogger(__name__)

_SUFFIX = ".npy"
_KEY = re.compile(r"[0-9a-zA-Z-]+")


class EmbeddingCache:
    """A folder of embeddings, of at most so many bytes; the longest unread go first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def find(self, picture: str, model: str) -> Float32s | None:
        """The embedding, bit for bit as it was kept; None where there is none, or only a damaged one."""
        path = self._path(picture, model)
        try:
            with path.open("rb") as file:
                embedding: Float32s = np.lib.format.read_array(file, allow_pickle=False)
            os.utime(path)
        except (OSError, ValueError):
            return None
        return embedding

    def keep(self, picture: str, model: str, embedding: Float32s) -> None:
        """Write it, whole or not at all. A disk that takes no more costs speed, not the answer."""
        if embedding.nbytes > self._max_bytes:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
                try:
                    np.save(file, embedding, allow_pickle=False)
                    file.close()
                    os.replace(file.name, self._path(picture, model))
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
            self._trim()
        except OSError as error:
            logger.warning("%s: %s; the next click encodes the image anew", self._folder, error.strerror or error)

    def erase(self, value_sha256: bytes) -> int:
        """Delete what was made of the file with this hash; return how many embeddings there were."""
        found = list(self._folder.glob(f"{value_sha256.hex()}*{_SUFFIX}")) if value_sha256 else []
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def _path(self, picture: str, model: str) -> Path:
        if not (_KEY.fullmatch(picture) and _KEY.fullmatch(model)):
            raise ValueError(f"{picture!r}, {model!r}: keys of embeddings are letters, digits and dashes")
        return self._folder / f"{picture}.{model}{_SUFFIX}"

    def _trim(self) -> None:
        files = []
        for path in self._folder.iterdir():
            try:
                found = path.stat()
            except FileNotFoundError:  # another process was quicker
                continue
            files.append((found.st_mtime_ns, found.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size
