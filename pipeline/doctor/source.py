"""The log: reachable, the topic known, its times plausible."""

from collections.abc import Iterator
from datetime import timedelta

from pipeline.assembly.sources import open_topic
from pipeline.doctor.finding import USAGE, Finding
from pipeline.ingest.source import Topic
from pipeline.records import Bounds, utc_now
from pipeline.settings import Settings
from pipeline.storage.schema import to_microseconds


def check_source(settings: Settings) -> Iterator[Finding]:
    """The topic exists and has partitions; no record is from the future."""
    if settings.source.url is None:
        yield Finding("source", "skipped", "no source is named", "name one with --source")
        return
    topic = open_topic(settings.source.url, settings.source.kafka)
    try:
        topic_id, bounds = topic.topic_id(), topic.bounds()
        if not bounds:
            yield Finding("source", "failed", f"topic {topic.name} has no partition", "make it anew", USAGE)
            return
        held = sum(bound.end - bound.beginning for bound in bounds)
        found = f"topic {topic.name} (id {topic_id}): {len(bounds)} partitions, {held:,} offsets in the log"
        yield Finding("source", "ok", found)
        yield _judge_times(topic, bounds, timedelta(minutes=settings.limits.max_future_minutes))
    finally:
        topic.close()


def _judge_times(topic: Topic, bounds: list[Bounds], tolerance: timedelta) -> Finding:
    """Records whose own time is ahead of this clock: their producer's clock is wrong, or this one."""
    limit = to_microseconds(utc_now() + tolerance)
    ahead = [bound for bound in bounds if topic.offset_at(bound.partition.number, limit) < bound.end]
    minutes = tolerance.total_seconds() / 60
    if ahead:
        found = f"{len(ahead)} partitions of {topic.name} hold records more than {minutes:g} min ahead of this clock"
        return Finding("clock", "warning", found, "synchronise this clock and the producers' (chrony, NTP)")
    return Finding("clock", "ok", f"no record of {topic.name} is more than {minutes:g} min ahead of this clock")
