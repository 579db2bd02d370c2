"""Which log a source URL means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pipeline.errors import UsageError
from pipeline.ingest.source import Subscription, Topic
from pipeline.ingest.spool import SpoolTopic, parse_spool_url
from pipeline.ingest.spool_subscription import SpoolSubscription
from pipeline.records import Bounds
from pipeline.stages.writer import StartAt
from pipeline.storage.schema import to_microseconds


@dataclass(frozen=True, slots=True)
class Source:
    """Both roles of one log."""

    topic: Topic
    subscription: Subscription


def open_topic(url: str) -> Topic:
    """What the log says about itself."""
    directory, topic = parse_spool_url(_supported(url))
    return SpoolTopic(directory, topic)


def open_source(url: str, *, group: str, max_records: int, max_bytes: int) -> Source:
    """A member of the group that reads the log."""
    directory, topic = parse_spool_url(_supported(url))
    subscription = SpoolSubscription(directory, topic, group=group, max_records=max_records, max_bytes=max_bytes)
    return Source(SpoolTopic(directory, topic), subscription)


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


def parse_time(flag: str, text: str) -> datetime:
    """An ISO 8601 time with its offset from UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: write an ISO time, as 2026-11-24T03:00:00Z") from error
    if at.tzinfo is None:
        raise UsageError(f"{flag} {text!r}: has no time zone; for UTC write {text}Z")
    return at


def _supported(url: str) -> str:
    if url.startswith("kafka://"):
        raise UsageError(f"source {url}: this release reads spools only; write spool:DIR/topic")
    return url
