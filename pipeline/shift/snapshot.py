"""The detector's state as bytes, the same bits back; and what it belongs to."""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import OodwatchError
from pipeline.shift.evidence import Streams

_FORMAT = 1


class CorruptState(OodwatchError):
    """Bytes that are no detector state of this format."""

    exit_code = 3


def pack(header: Mapping[str, Any], arrays: Sequence[Streams]) -> bytes:
    """Format byte, then compressed: the header's length, the header as JSON, the arrays' bytes.

    The header should hold the arrays' lengths.

    Arrays are stored with the first bytes of all records together, then the second ones: signs and
    exponents repeat, and what never moved is zero.
    """
    text = json.dumps(header, sort_keys=True, ensure_ascii=False).encode()
    body = b"".join(
        np.ascontiguousarray(array).view(np.uint8).reshape(len(array), array.dtype.itemsize).T.tobytes()
        for array in arrays
    )
    return bytes([_FORMAT]) + zlib.compress(len(text).to_bytes(4, "little") + text + body, level=1)


def unpack(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header, and what `unpack_arrays` reads once the header says that it fits. Raises CorruptState."""
    if not content or content[0] != _FORMAT:
        raise CorruptState(
            f"detector state of format {content[:1].hex() or 'none'}, this release reads {_FORMAT:02x}: start it anew"
        )
    try:
        plain = zlib.decompress(content[1:])
        at = 4 + int.from_bytes(plain[:4], "little")
        return json.loads(plain[4:at]), plain[at:]
    except (zlib.error, ValueError) as error:
        raise CorruptState(f"a detector state of {len(content)} bytes does not decode: {error}") from error


def unpack_arrays(body: bytes, counts: Sequence[int], dtypes: Sequence[np.dtype[np.void]]) -> list[Streams]:
    """The arrays of these lengths and types. Raises CorruptState for other bytes."""
    arrays: list[Streams] = []
    at = 0
    try:
        for dtype, count in zip(dtypes, counts, strict=True):
            size = dtype.itemsize * count
            columns = np.frombuffer(body, np.uint8, size, at).reshape(dtype.itemsize, count)
            arrays.append(columns.T.copy().view(dtype).reshape(count))
            at += size
        if at != len(body):
            raise ValueError(f"{len(body) - at} bytes too many")
    except (ValueError, TypeError) as error:
        raise CorruptState(f"the arrays of a detector state, {len(body)} bytes, do not decode: {error}") from error
    return arrays


def fingerprint(*values: object) -> str:
    """A hash of frozen dataclasses, arrays and plain values, the same in every process."""
    digest = hashlib.sha256()
    for value in values:
        _feed(digest, value)
    return digest.hexdigest()[:16]


def _feed(digest: "hashlib._Hash", value: object) -> None:
    if dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            digest.update(one.name.encode())
            _feed(digest, getattr(value, one.name))
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype.str}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value):
            digest.update(f"{key!r}:".encode())
            _feed(digest, value[key])
    elif isinstance(value, tuple):
        for item in value:
            _feed(digest, item)
    else:
        digest.update(f"{value!r};".encode())
