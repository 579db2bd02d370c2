"""What the client calls a message, as a record."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.records import Partition, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_record(partition: Partition, message: Any) -> Record:
    """A consumer's message as a record."""
    at = _EPOCH + timedelta(milliseconds=message.timestamp) if message.timestamp >= 0 else None
    return Record(partition, message.offset, at, message.key, message.value, tuple(message.headers))
