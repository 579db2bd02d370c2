"""Arrays as one column: an .npz without pickles."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.errors import OodwatchError
from pipeline.records import CoverageReference

_COVERAGE = "coverage_"


class CorruptArrays(OodwatchError):
    """Bytes that are no arrays of this release."""

    exit_code = 3


def pack(arrays: Mapping[str, Any]) -> bytes:
    """Arrays and numbers by name; the same values give the same bytes."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def unpack(content: bytes) -> dict[str, Any]:
    """The inverse of `pack`, bit for bit. Raises CorruptArrays for other bytes."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptArrays(f"{len(content)} bytes are no arrays: {error}; restore the row from a backup") from error


def coverage_arrays(coverage: CoverageReference | None) -> dict[str, Any]:
    """For `pack`, beside others."""
    return {} if coverage is None else {_COVERAGE + name: value for name, value in asdict(coverage).items()}


def coverage_of(arrays: Mapping[str, Any]) -> CoverageReference | None:
    """The inverse; None where there is none."""
    values = {name.removeprefix(_COVERAGE): value for name, value in arrays.items() if name.startswith(_COVERAGE)}
    if not values:
        return None
    numbers = {"n": int(values.pop("n")), "q": float(values.pop("q")), "from_traffic": bool(values.pop("from_traffic"))}
    return CoverageReference(**values, **numbers)  # type: ignore[arg-type]
