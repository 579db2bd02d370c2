"""Cursors: where each partition stands, moved only by compare-and-set.

No gap: `next_offset` moves only from `start` to `end`, in the transaction that writes every offset
between. No duplicate: once moved, it never equals `start` again. A zombie's UPDATE meets no row: under
READ COMMITTED it waits for the row's lock and then looks at the row anew.

Whoever updates several streams in one transaction takes them in the order of their keys, so that no two
workers wait for one another.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Update,
    bindparam,
    func,
    insert,
    or_,
    select,
    type_coerce,
    update,
)

from pipeline.records import Bounds, LogRetention, Partition
from pipeline.storage.conflicts import insert_or
from pipeline.storage.schema import DeploymentRow, StreamGapRow, StreamRow

_CAUGHT_UP_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A stream's key and position."""

    stream_id: int
    next_offset: int
    attempts: int  # times taken over since the last commit, this one included


@dataclass(frozen=True, slots=True)
class Advance:
    """What one committed range does to its stream."""

    start: int
    end: int
    scored: int
    dead: int
    holes: int
    log_end: int
    newest_event_time: int | None  # microseconds; None where nothing was counted
    record_time: int | None = None  # the log's time of its last record, microseconds


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """Every offset of one partition is accounted for: produced = the sum of all that follow."""

    deployment: str
    topic: str
    topic_id: str
    partition: int
    produced: int
    scored: int
    dead: int
    waiting: int
    expired: int
    skipped: int
    holes: int


def take_over(
    conn: Connection, deployment_id: int, partition: Partition, *, owner: str, now: datetime
) -> Cursor | None:
    """Read a cursor on behalf of a worker that will go on from it; None where there is none yet.

    Counts the attempt: a stream that is taken over again and again without one commit has
    something in front that kills workers.
    """
    row = conn.execute(
        update(StreamRow)
        .where(*_is(deployment_id, partition))
        .values(attempts=StreamRow.attempts + 1, owner=owner, updated_at=now)
        .returning(StreamRow.id, StreamRow.next_offset, StreamRow.attempts)
    ).one_or_none()
    return None if row is None else Cursor(row.id, row.next_offset, row.attempts)


def begin_stream(
    conn: Connection, deployment_id: int, bounds: Bounds, *, first: int, owner: str, now: datetime
) -> Cursor:
    """Make the cursor of a partition that this deployment sees for the first time.

    `first` is where reading begins; offsets from the log's beginning to it are counted as skipped.
    Where another worker has just made it, this is a takeover.
    """
    partition = bounds.partition
    stream_id = conn.execute(
        insert_or(conn, StreamRow)
        .values(
            deployment_id=deployment_id,
            topic=partition.topic,
            topic_id=partition.topic_id,
            partition=partition.number,
            start_offset=bounds.beginning,
            next_offset=first,
            log_end=bounds.end,
            scored=0,
            dead=0,
            expired=0,
            skipped=first - bounds.beginning,
            holes=0,
            attempts=1,
            owner=owner,
            updated_at=now,
        )
        .on_conflict_do_nothing()
        .returning(StreamRow.id)
    ).scalar_one_or_none()
    if stream_id is None:
        taken = take_over(conn, deployment_id, partition, owner=owner, now=now)
        assert taken is not None, "a stream is never deleted"
        return taken
    if first > bounds.beginning:
        _record_gap(conn, stream_id, bounds.beginning, first, "skipped", now)
    return Cursor(stream_id, first, 1)


def advance(conn: Connection, stream_id: int, step: Advance, *, owner: str, now: datetime) -> bool:
    """Compare-and-set: move from `start` to `end`. False: fenced, somebody else has moved it."""
    values = {
        "stream": stream_id,
        "from": step.start,
        "to": step.end,
        "more_scored": step.scored,
        "more_dead": step.dead,
        "more_holes": step.holes,
        "seen_end": step.log_end,
        "newest": step.newest_event_time,
        "read_time": step.record_time,
        "by": owner,
        "now": now,
    }
    return conn.execute(_compare_and_set(conn.dialect.name), values).rowcount == 1


@lru_cache
def _compare_and_set(engine: str) -> Update:
    """Built once: a batch runs it for each of its ranges, and building it costs more than running it."""
    greatest = _greatest(engine)
    known, newest = type_coerce(StreamRow.newest_event_time, BigInteger), bindparam("newest", type_=BigInteger)
    read_time = type_coerce(StreamRow.record_time, BigInteger)
    return (
        update(StreamRow)
        .where(StreamRow.id == bindparam("stream"), StreamRow.next_offset == bindparam("from"))
        .values(
            next_offset=bindparam("to"),
            scored=StreamRow.scored + bindparam("more_scored"),
            dead=StreamRow.dead + bindparam("more_dead"),
            holes=StreamRow.holes + bindparam("more_holes"),
            log_end=greatest(StreamRow.log_end, bindparam("seen_end", type_=BigInteger)),
            attempts=0,
            newest_event_time=func.coalesce(greatest(func.coalesce(known, newest), newest), known),
            record_time=func.coalesce(bindparam("read_time", type_=BigInteger), read_time),
            owner=bindparam("by"),
            updated_at=bindparam("now"),
        )
    )


def expire(
    conn: Connection, stream_id: int, *, position: int, beginning: int, reason: str = "expired", now: datetime
) -> bool:
    """Account for [position, beginning), which the log holds no longer, and move on. False: fenced.

    LogRetention overtook the cursor, or (reason `corrupt`) the bytes there are damaged.
    """
    moved = conn.execute(
        update(StreamRow)
        .where(StreamRow.id == stream_id, StreamRow.next_offset == position)
        .values(
            next_offset=beginning,
            expired=StreamRow.expired + (beginning - position),
            log_end=_greatest(conn.dialect.name)(StreamRow.log_end, beginning),
            updated_at=now,
        )
    )
    if moved.rowcount == 1:
        _record_gap(conn, stream_id, position, beginning, reason, now)
    return moved.rowcount == 1


def release(conn: Connection, stream_ids: Sequence[int]) -> None:
    """Takeovers that ended in order, one each, were no failed attempts."""
    for stream_id in sorted(stream_ids):
        counted = StreamRow.id == stream_id, StreamRow.attempts > 0
        conn.execute(update(StreamRow).where(*counted).values(attempts=StreamRow.attempts - 1))


def note_log(
    conn: Connection, seen: Mapping[int, Bounds], retention: LogRetention, caught_up: Collection[int], *, now: datetime
) -> None:
    """Store what the log holds and keeps, by stream, so that what waits is known while nothing is read.

    In streams that are `caught_up` nothing waits: stored once a minute, lest an idle worker writes all the time.
    """
    kept_ms = None if retention.time is None else retention.time // timedelta(milliseconds=1)
    greatest, known_at = _greatest(conn.dialect.name), StreamRow.caught_up_at
    for stream_id, bounds in sorted(seen.items()):
        facts: dict[str, Any] = {"log_start": bounds.beginning, "retention_ms": kept_ms}
        facts["retention_bytes"] = retention.size
        news = [getattr(StreamRow, name).is_distinct_from(value) for name, value in facts.items()]
        if stream_id in caught_up:
            news += [known_at.is_(None), known_at < now - _CAUGHT_UP_EVERY]
            facts["caught_up_at"] = now
        facts["log_end"] = greatest(StreamRow.log_end, bounds.end)
        changed = or_(StreamRow.log_end < bounds.end, *news)
        conn.execute(update(StreamRow).where(StreamRow.id == stream_id, changed).values(**facts))


def positions(conn: Connection, deployment_id: int, topic: str) -> dict[Partition, int]:
    """Where the cursor of each partition stands, whoever moved it; of all incarnations of the topic."""
    rows = conn.execute(
        select(StreamRow.topic_id, StreamRow.partition, StreamRow.next_offset).where(
            StreamRow.deployment_id == deployment_id, StreamRow.topic == topic
        )
    )
    return {Partition(topic, row.topic_id, row.partition): row.next_offset for row in rows}


def ledger(
    conn: Connection, *, deployment: str | None = None, log_ends: Mapping[Partition, int] | None = None
) -> list[LedgerLine]:
    """Every stream's account up to the log's end: as given, else as last stored."""
    statement = (
        select(StreamRow.__table__, DeploymentRow.name.label("deployment"))
        .join(DeploymentRow, DeploymentRow.id == StreamRow.deployment_id)
        .order_by(DeploymentRow.name, StreamRow.topic, StreamRow.id)
    )
    if deployment is not None:
        statement = statement.where(DeploymentRow.name == deployment)
    return [_line(row, log_ends or {}) for row in conn.execute(statement)]


def _line(row: Row[Any], log_ends: Mapping[Partition, int]) -> LedgerLine:
    asked = log_ends.get(Partition(row.topic, row.topic_id, row.partition), 0)
    end = max(row.log_end, row.next_offset, asked)
    return LedgerLine(
        deployment=row.deployment,
        topic=row.topic,
        topic_id=row.topic_id,
        partition=row.partition,
        produced=end - row.start_offset,
        scored=row.scored,
        dead=row.dead,
        waiting=end - row.next_offset,
        expired=row.expired,
        skipped=row.skipped,
        holes=row.holes,
    )


def _greatest(engine: str) -> Callable[..., Any]:
    """The larger of two numbers; the engines spell it differently."""
    return func.max if engine == "sqlite" else func.greatest


def _is(deployment_id: int, partition: Partition) -> tuple[ColumnElement[bool], ...]:
    return (
        StreamRow.deployment_id == deployment_id,
        StreamRow.topic == partition.topic,
        StreamRow.topic_id == partition.topic_id,
        StreamRow.partition == partition.number,
    )


def _record_gap(conn: Connection, stream_id: int, start: int, end: int, reason: str, now: datetime) -> None:
    conn.execute(
        insert(StreamGapRow).values(stream_id=stream_id, from_offset=start, to_offset=end, reason=reason, at=now)
    )
