from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.errors import RejectedRecord
from pipeline.ingest.message import MessageLimits, check_sha256, identity, read_message
from pipeline.records import ClockSource, Message, Partition, Record

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
SENT = NOW - timedelta(seconds=2)
LIMITS = MessageLimits(max_bytes=1000)


def record(value: bytes | None = b"x", timestamp: datetime | None = SENT, **headers: Any) -> Record:
    pairs = tuple((name.replace("__", "-"), text) for name, text in headers.items())
    return Record(Partition("t", "id", 0), 7, timestamp, b"key", value, pairs)


def read(given: Record) -> Message:
    return read_message(given, now=NOW, limits=LIMITS)


def reason(given: Record) -> str:
    with pytest.raises(RejectedRecord) as rejection:
        read(given)
    return str(rejection.value.reason)


def test_a_plain_record_has_the_default_segment_and_the_logs_own_time() -> None:
    message = read(record())
    assert (message.segment, message.id, message.label, message.drill) == ("default", None, None, False)
    assert (message.event_time, message.clock) == (SENT, ClockSource.RECORD)


def test_values_that_are_missing_empty_or_too_large() -> None:
    assert reason(record(None)) == "tombstone"
    assert reason(record(b"")) == "empty"
    assert reason(record(b"x" * 1001)) == "too_large"


@pytest.mark.parametrize(
    "headers",
    [
        {"segment": b"\xff\xfe"},
        {"id": b"a\nb"},
        {"label": b"x" * 5000},
        {"sha256": b"123"},
        {"drill": b"maybe"},
        {"segment": b"s" * 201},
    ],
)
def test_rubbish_in_a_known_header_is_a_bad_header(headers: dict[str, Any]) -> None:
    assert reason(record(**headers)) == "bad_header"


@pytest.mark.parametrize("headers", [{"content__type": b"text/html"}, {"ce_dataref": b"x"}, {"ce_sampledrate": b"3"}])
def test_what_this_release_does_not_take_is_an_unknown_type(headers: dict[str, Any]) -> None:
    assert reason(record(**headers)) == "unknown_type"


def test_cloud_events_name_segment_id_and_time() -> None:
    message = read(record(ce_source=b"site-3", ce_subject=b"cam-1", ce_id=b"42", ce_time=b"2026-11-24T04:00:00+02:00"))
    assert (message.segment, message.id) == ("site-3/cam-1", "42")
    assert message.event_time == datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
    assert message.clock is ClockSource.EVENT
    assert read(record(segment=b"own", ce_source=b"site-3")).segment == "own"


@pytest.mark.parametrize(
    "stamp", [b"2026-11-24T03:05:01Z", b"rubbish", b"2026-11-24T02:00:00", b"9999-99-99T00:00:00Z"]
)
def test_an_event_time_that_cannot_be_is_replaced_by_the_logs_time(stamp: bytes) -> None:
    message = read(record(ce_time=stamp))
    assert (message.event_time, message.clock) == (SENT, ClockSource.RECORD)


def test_an_event_time_up_to_five_minutes_ahead_is_believed() -> None:
    assert read(record(ce_time=b"2026-11-24T03:05:00Z")).clock is ClockSource.EVENT


@pytest.mark.parametrize("timestamp", [None, NOW + timedelta(hours=1)])
def test_without_a_usable_time_the_arrival_counts(timestamp: datetime | None) -> None:
    message = read(record(timestamp=timestamp))
    assert (message.event_time, message.clock) == (NOW, ClockSource.ARRIVAL)


def test_only_a_time_before_the_horizon_is_too_old() -> None:
    assert reason(record(ce_time=b"2020-01-01T00:00:00Z")) == "too_old"
    assert read(record(ce_time=b"2025-01-01T00:00:00Z")).clock is ClockSource.EVENT


def test_a_declared_hash_is_checked() -> None:
    message = read(record(sha256=b"ab" * 32))
    check_sha256(message, bytes.fromhex("ab" * 32))
    with pytest.raises(RejectedRecord, match="damaged"):
        check_sha256(message, bytes(32))


def test_unknown_headers_are_kept_and_capped() -> None:
    many: dict[str, Any] = {f"x{i}": b"v" * 1000 for i in range(50)}
    kept = read(record(traceparent=b"00-abc", **many)).other_headers
    assert kept[0] == ("traceparent", "00-abc")
    assert len(kept) == 32
    assert max(len(text) for _, text in kept) == 256


def test_identity_is_read_from_records_that_cannot_be_scored() -> None:
    assert identity(record(None, id=b"a", segment=b"s" * 300)) == ("a", "s" * 300)
