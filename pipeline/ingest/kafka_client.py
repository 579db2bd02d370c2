"""Making one of kafka-python's clients, and what they return."""

from datetime import UTC, datetime, timedelta
from typing import Any

from kafka import KafkaConsumer

from pipeline.records import Partition, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def make_client(kind: Any, **config: object) -> Any:
    """A KafkaConsumer, KafkaProducer or KafkaAdminClient; raises whatever the client raises.

    The client starts its IO thread before it looks for a broker, and leaves it behind when it finds none:
    in an hour without a broker, a thread and a selector for every attempt. So it is made in two steps,
    and what a failed one has started is stopped.
    """
    client = kind.__new__(kind)
    try:
        client.__init__(**config)
    except BaseException:
        inner = getattr(client, "_client", None)
        if inner is not None:
            inner.close()
        raise
    return client


def make_consumer(**config: object) -> Any:
    """A KafkaConsumer; see `make_client`."""
    return make_client(KafkaConsumer, **config)


def to_record(partition: Partition, message: Any) -> Record:
    """A ConsumerRecord as a record."""
    return Record(
        partition,
        message.offset,
        _EPOCH + timedelta(milliseconds=message.timestamp) if message.timestamp >= 0 else None,
        message.key,
        message.value,
        tuple(message.headers),
    )
