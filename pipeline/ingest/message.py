"""What a record says about its image: headers → Message. Contract v1; CloudEvents binary mode is understood."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.errors import RejectedRecord
from pipeline.records import DEFAULT_SEGMENT, ClockSource, Message, Reason, Record

_IMAGE_TYPES = frozenset(
    f"image/{kind}" for kind in ("jpeg", "jpg", "pjpeg", "png", "webp", "bmp", "x-ms-bmp", "tiff", "tif")
)
NPY_TYPE = "application/x-npy"
_OPAQUE_TYPES = frozenset({"application/octet-stream", "binary/octet-stream"})
_TAKEN_TYPES = _IMAGE_TYPES | _OPAQUE_TYPES | {NPY_TYPE}

_KNOWN = frozenset(
    {"content-type", "segment", "id", "label", "sha256", "drill"}
    | {f"ce_{name}" for name in ("id", "source", "subject", "time", "type", "specversion", "dataref", "sampledrate")}
)
#: Reserved for later releases; scoring them as plain images would be wrong.
_RESERVED = {"ce_dataref": "an image by reference", "ce_sampledrate": "a sampling weight"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_MAX_NAME = 200
_MAX_OTHER_HEADERS = 32
_MAX_OTHER_VALUE = 256


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What a record may carry, and how far its clock may be off."""

    max_bytes: int = 20 * 2**20
    max_header_bytes: int = 4096
    max_future: timedelta = timedelta(minutes=5)
    horizon: timedelta = timedelta(days=730)


def read_message(record: Record, *, now: datetime, limits: MessageLimits) -> Message:
    """Read a record's headers. Names are case-insensitive; of a repeated one the last counts.

    A scorable image is never lost to its clock: an event time that is unreadable or more than
    `max_future` ahead of `now` is replaced by the record's own time, else by `now`.

    Raises RejectedRecord (stage `message`): tombstone, empty, too_large, bad_header, unknown_type,
    too_old.
    """
    _check_value(record.value, limits)
    headers, others = _split_headers(record, limits)
    _check_type(headers)
    event_time, clock = _event_time(headers.get("ce_time"), record.timestamp, now, limits)
    return Message(
        event_time=event_time,
        clock=clock,
        segment=_segment(headers),
        id=headers.get("id") or headers.get("ce_id"),
        label=headers.get("label"),
        content_type=_content_type(headers),
        sha256=_sha256(headers.get("sha256")),
        drill=_drill(headers.get("drill")),
        other_headers=others,
    )


def check_sha256(message: Message, digest: bytes) -> None:
    """Raises RejectedRecord where the value's hash is not the one that the producer declared."""
    if message.sha256 is not None and message.sha256 != digest:
        raise _rejected(
            Reason.CHECKSUM,
            f"the value's sha256 is {digest.hex()[:12]}..., the header says {message.sha256.hex()[:12]}...:"
            " damaged on the way, or the header belongs to another image",
        )


def identity(record: Record) -> tuple[str | None, str]:
    """(id, segment) as far as they can be read, without judging the record."""
    headers = {name.lower(): value.decode("utf-8", "replace") for name, value in record.headers if value is not None}
    return headers.get("id") or headers.get("ce_id"), _segment(headers, strict=False)


def _check_value(value: bytes | None, limits: MessageLimits) -> None:
    if value is None:
        raise _rejected(Reason.TOMBSTONE, "the record has no value")
    if not value:
        raise _rejected(Reason.EMPTY, "the value has no bytes")
    if len(value) > limits.max_bytes:
        raise _rejected(
            Reason.TOO_LARGE,
            f"{len(value):,} bytes, the limit is {limits.max_bytes:,}; raise limits.max_bytes or send smaller images",
        )


def _split_headers(record: Record, limits: MessageLimits) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    known: dict[str, str] = {}
    others: list[tuple[str, str]] = []
    for raw_name, value in record.headers:
        name = raw_name.lower()
        if value is None:
            continue
        if name in _KNOWN:
            known[name] = _text(name, value, limits)
        elif len(others) < _MAX_OTHER_HEADERS:
            others.append((raw_name, value[: 4 * _MAX_OTHER_VALUE].decode("utf-8", "replace")[:_MAX_OTHER_VALUE]))
    return known, tuple(others)


def _text(name: str, value: bytes, limits: MessageLimits) -> str:
    if len(value) > limits.max_header_bytes:
        raise _rejected(
            Reason.BAD_HEADER, f"header {name} has {len(value):,} bytes, the limit is {limits.max_header_bytes:,}"
        )
    try:
        text = value.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise _rejected(Reason.BAD_HEADER, f"header {name} is not UTF-8: {value[:20]!r}") from error
    if _CONTROL.search(text):
        raise _rejected(Reason.BAD_HEADER, f"header {name} has control characters: {text[:20]!r}")
    return text


def _check_type(headers: Mapping[str, str]) -> None:
    for name, meaning in _RESERVED.items():
        if name in headers:
            raise _rejected(Reason.UNKNOWN_TYPE, f"header {name} means {meaning}, which this release does not take")


def _content_type(headers: Mapping[str, str]) -> str | None:
    content_type = headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type and content_type not in _TAKEN_TYPES:
        raise _rejected(
            Reason.UNKNOWN_TYPE,
            f"content type {content_type[:80]!r}; taken are JPEG, PNG, WebP, BMP, TIFF and {NPY_TYPE}",
        )
    return content_type or None


def _segment(headers: Mapping[str, str], *, strict: bool = True) -> str:
    parts = [headers.get("ce_source", ""), headers.get("ce_subject", "")]
    segment = headers.get("segment") or "/".join(part for part in parts if part) or DEFAULT_SEGMENT
    if strict and len(segment) > _MAX_NAME:
        raise _rejected(Reason.BAD_HEADER, f"segment {segment[:20]!r}... has {len(segment)} characters, at most 200")
    return segment


def _sha256(text: str | None) -> bytes | None:
    if text is None or text == "":
        return None
    if not _SHA256.fullmatch(text):
        raise _rejected(Reason.BAD_HEADER, f"header sha256 is not 64 hexadecimal digits: {text[:70]!r}")
    return bytes.fromhex(text)


def _drill(text: str | None) -> bool:
    if text is None or text.lower() in {"", "0", "false"}:
        return False
    if text.lower() in {"1", "true"}:
        return True
    raise _rejected(Reason.BAD_HEADER, f"header drill is {text[:20]!r}; write 1 or 0")


def _event_time(
    declared: str | None, timestamp: datetime | None, now: datetime, limits: MessageLimits
) -> tuple[datetime, ClockSource]:
    latest = now + limits.max_future
    event = _parse_time(declared)
    if event is not None and event <= latest:
        at, clock = event, ClockSource.EVENT
    elif timestamp is not None and timestamp <= latest:
        at, clock = timestamp, ClockSource.RECORD
    else:
        at, clock = now, ClockSource.ARRIVAL
    if at < now - limits.horizon:
        raise _rejected(
            Reason.TOO_OLD,
            f"event time {at.isoformat()} lies before the retention horizon, {(now - limits.horizon).isoformat()}",
        )
    return at, clock


def _parse_time(text: str | None) -> datetime | None:
    """RFC 3339 with an offset; None for anything else: a clock alone never costs an image."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        return None if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _rejected(reason: Reason, text: str) -> RejectedRecord:
    return RejectedRecord("message", reason, text)
