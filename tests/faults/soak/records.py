"""What is sent: every record is a function of its number, so the oracle can make it again."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.tiny import energies, pixels, png

POISON_EVERY = 50
_POISON = 17

#: Identity of a value, and what the database keeps of it: the hash, or one of these two where there is none.
EMPTY = b"empty"
TOMBSTONE = b"tombstone"


def is_poison(number: int) -> bool:
    """One in fifty cannot be scored."""
    return number % POISON_EVERY == _POISON


def value_of(number: int) -> bytes | None:
    """The record's bytes: a picture, or one of five things that are none."""
    whole = png(number)
    if not is_poison(number):
        return whole
    kinds = (whole[: len(whole) // 2], b"", f"no image {number}".encode(), whole[:20] + bytes([number % 251]), None)
    return kinds[number // POISON_EVERY % len(kinds)]


def segment_of(number: int) -> str:
    """Three cameras, in turn."""
    return f"camera-{number % 3}"


def content_of(value: bytes | None) -> bytes:
    """SHA-256, or what stands for it."""
    if not value:
        return TOMBSTONE if value is None else EMPTY
    return hashlib.sha256(value).digest()


def energies_of(numbers: Sequence[int], weights: Path) -> NDArray[np.float64]:
    """What the rows of these records must hold, computed without the product."""
    if not numbers:
        return np.empty(0)
    return energies(np.stack([pixels(number) for number in numbers]), weights)
