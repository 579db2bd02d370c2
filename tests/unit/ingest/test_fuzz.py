"""No bytes and no headers may raise anything but RejectedRecord. Derandomised: the same examples every time."""

import io
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypeVar

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import RejectedRecord
from pipeline.ingest.decode import DecodeLimits, decode
from pipeline.ingest.message import NPY_TYPE, MessageLimits, identity, read_message
from pipeline.records import Partition, Reason, Record

LIMITS = DecodeLimits(max_pixels=100_000)
NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "NPY")
KNOWN = ("content-type", "segment", "id", "label", "sha256", "drill", "ce_id", "ce_source", "ce_subject", "ce_time")
PLAUSIBLE = (
    b"",
    b"1",
    b"image/png",
    b"2026-11-24T02:59:00Z",
    b"0001-01-01T00:00:00+23:59",
    b"ab" * 32,
    b"\xe2\x82\xac",
)

T = TypeVar("T")


def outcome(attempt: Callable[[], T]) -> T | None:
    """What came of it; None where the record was rejected, for one of the known reasons."""
    try:
        return attempt()
    except RejectedRecord as rejection:
        Reason(rejection.reason)
        return None


@cache
def valid(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    out = io.BytesIO()
    np.save(out, pixels) if kind == "NPY" else Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def mutated(value: bytes, rng: random.Random) -> bytes:
    """One to six wounds: bytes set, bits flipped, pieces cut off, dropped, repeated, inserted or taken from others."""
    for _ in range(rng.randint(1, 6)):
        at, size = rng.randrange(len(value) + 1), rng.randint(1, 64)
        head, tail = value[:at], value[at:]
        value = rng.choice(
            (
                head + rng.randbytes(1) + tail[1:],
                head + bytes(byte ^ 1 << rng.randrange(8) for byte in tail[:1]) + tail[1:],
                head,
                head + tail[size:],
                head + tail[:size] + tail,
                head + rng.randbytes(size) + tail,
                head + valid(rng.choice(KINDS))[at:],
            )
        )
    return value


@settings(derandomize=True, database=None, deadline=None, max_examples=6_000)
@given(st.sampled_from(KINDS), st.integers(0, 2**32), st.booleans())
def test_damaged_bytes_give_pixels_or_a_rejection_and_nothing_else(kind: str, seed: int, upright: bool) -> None:
    value = mutated(valid(kind), random.Random(seed))
    content_type = NPY_TYPE if kind == "NPY" else None
    pixels = outcome(lambda: decode(value, content_type, limits=LIMITS, exif_orientation=upright))
    if pixels is not None:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert 0 < pixels.shape[0] * pixels.shape[1] <= LIMITS.max_pixels


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(st.sampled_from(["image/jpeg", NPY_TYPE, None]), st.binary(max_size=200))
def test_any_bytes_give_pixels_or_a_rejection_and_nothing_else(content_type: str | None, value: bytes) -> None:
    pixels = outcome(lambda: decode(value, content_type, limits=LIMITS))
    assert pixels is None or pixels.shape[2] == 3


@settings(derandomize=True, database=None, deadline=None, max_examples=3_000)
@given(st.integers(0, 2**32), st.text(max_size=12))
def test_any_headers_give_a_message_or_a_rejection_and_nothing_else(seed: int, name: str) -> None:
    rng = random.Random(seed)
    headers = tuple(
        (
            rng.choice((*KNOWN, name, name.upper(), "SEGMENT")),
            rng.choice((*PLAUSIBLE, rng.randbytes(rng.randrange(300)), None)),
        )
        for _ in range(rng.randrange(8))
    )
    timestamp = rng.choice((None, NOW, NOW + timedelta(days=rng.randint(-700_000, 2_900_000))))
    record = Record(Partition("t", "id", 0), 7, timestamp, None, rng.choice((b"x", b"", None)), headers)
    _, segment = identity(record)
    message = outcome(lambda: read_message(record, now=NOW, limits=MessageLimits()))
    if message is not None:
        assert message.segment == segment
        assert 0 < len(message.segment) <= 200
        assert message.event_time.tzinfo is not None
        assert len(message.other_headers) <= 32
