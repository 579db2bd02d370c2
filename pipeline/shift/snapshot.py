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

    Arrays are stored with the first bytes of all records together, then the second ones: signs and
    exponents repeat, and what never moved is zero.
    """
    text = json.dumps(header, sort_keys=True, ensure_ascii=False).encode()
    body = b"".join(
        np.ascontiguousarray(array).view(np.uint8).reshape(len(array), array.dtype.itemsize).T.tobytes()
        for array in arrays
    )
    return bytes([_FORMAT]) + zlib.compress(len(text).to_bytes(4, "little") + text + body, level=1)


def unpack(content: bytes, dtypes: Sequence[np.dtype[np.void]]) -> tuple[dict[str, Any], list[Streams]]:
    """The inverse of `pack`, where the header's `counts` are the arrays' lengths. Raises CorruptState."""
    if not content or content[0] != _FORMAT:
        raise CorruptState(
            f"detector state of format {content[:1].hex() or 'none'}, this release reads {_FORMAT:02x}: start it anew"
        )
    try:
        plain = zlib.decompress(content[1:])
        at = 4 + int.from_bytes(plain[:4], "little")
        header = json.loads(plain[4:at])
        arrays = []
        for dtype, count in zip(dtypes, header["counts"], strict=True):
            size = dtype.itemsize * count
            columns = np.frombuffer(plain, np.uint8, size, at).reshape(dtype.itemsize, count)
            arrays.append(columns.T.copy().view(dtype).reshape(count))
            at += size
        if at != len(plain):
            raise ValueError(f"{len(plain) - at} bytes too many")
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise CorruptState(f"a detector state of {len(content)} bytes does not decode: {error}") from error
    return header, arrays


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
