"""Which log a source URL means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.ingest.source import Appender, NewRecord, Originals, Subscription, Topic
from pipeline.ingest.spool import Spool, SpoolTopic, parse_spool_url
from pipeline.ingest.spool_subscription import SpoolSubscription
from pipeline.records import Bounds
from pipeline.stages.cursors import StartAt
from pipeline.storage.schema import to_microseconds

if TYPE_CHECKING:
    from pipeline.ingest.kafka_options import KafkaOptions

#: One-shot commands give up after so long without an answer.
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Source:
    """Both roles of one log."""

    topic: Topic
    subscription: Subscription


def check_source(url: str, kafka: Mapping[str, object]) -> None:
    """Raises UsageError for a source that cannot be meant, before anything is opened."""
    if _is_kafka(url):
        kafka_options(url, kafka)
    else:
        parse_spool_url(url)


def open_topic(url: str, kafka: Mapping[str, object], *, timeout_s: float = TIMEOUT_S) -> Originals:
    """What the log says about itself, and single records of it."""
    if _is_kafka(url):
        from pipeline.ingest.kafka_topic import KafkaTopic

        return KafkaTopic(kafka_options(url, kafka), timeout_s=timeout_s)
    return SpoolTopic(*parse_spool_url(url))


def open_source(url: str, kafka: Mapping[str, object], *, group: str, max_records: int, max_bytes: int) -> Source:
    """A member of the group that reads the log."""
    if _is_kafka(url):
        from pipeline.ingest.kafka_subscription import KafkaSubscription
        from pipeline.ingest.kafka_topic import KafkaTopic

        options = kafka_options(url, kafka)
        member = KafkaSubscription(options, group=group, max_records=max_records, max_bytes=max_bytes)
        return Source(KafkaTopic(options), member)
    directory, topic = parse_spool_url(url)
    subscription = SpoolSubscription(directory, topic, group=group, max_records=max_records, max_bytes=max_bytes)
    return Source(SpoolTopic(directory, topic), subscription)


def open_appender(
    url: str,
    kafka: Mapping[str, object],
    *,
    partitions: int | None,
    timeout_s: float,
    on_refused: Callable[[NewRecord, str], None],
) -> Appender:
    """Somewhere to append to; a spool is made where there is none, a topic is not."""
    if not _is_kafka(url):
        return Spool(*parse_spool_url(url), partitions=partitions)
    from pipeline.ingest.kafka_producer import KafkaAppender

    if partitions is not None:
        raise UsageError("--partitions: a Kafka topic is made by `oodwatch topics ensure --partitions N`")
    return KafkaAppender(kafka_options(url, kafka), timeout_s=timeout_s, on_refused=on_refused)


def kafka_options(url: str, kafka: Mapping[str, object]) -> KafkaOptions:
    """The checked settings of a Kafka source."""
    try:
        from pipeline.ingest.kafka_options import read_options
    except ModuleNotFoundError as error:
        raise UsageError(
            f"source {url}: the Python package {error.name} is missing; install kafka-python[crc32c,lz4,zstd]"
        ) from error
    return read_options(url, kafka)


def start_from(text: str) -> StartAt:
    """Where to begin without a cursor: earliest, latest or an ISO time.

    Raises UsageError for anything else.
    """
    if text == "earliest":
        return lambda topic, bounds: bounds.beginning
    if text == "latest":
        return lambda topic, bounds: bounds.end
    at_us = to_microseconds(parse_time("--from", text))

    def first_at(topic: Topic, bounds: Bounds) -> int:
        return topic.offset_at(bounds.partition.number, at_us)

    return first_at


def parse_time(flag: str, text: str, *, else_as: str = "") -> datetime:
    """An ISO 8601 time with its offset from UTC; `else_as` is named as what would do, too."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: write {else_as}an ISO time, as 2026-11-24T03:00:00Z") from error
    if at.tzinfo is None:
        raise UsageError(f"{flag} {text!r}: has no time zone; for UTC write {text}Z")
    return at


def check_window(start: datetime | None, end: datetime | None) -> None:
    """Raises UsageError for a window that ends before it begins; None: it is open there."""
    if start is not None and end is not None and not start < end:
        raise UsageError(f"--from {start.isoformat()} must lie before --to {end.isoformat()}")


def _is_kafka(url: str) -> bool:
    return url.startswith("kafka:")
