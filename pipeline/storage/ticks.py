"""Ticks and the parts they are folded from. Reading a part and deleting exactly it are two halves of one fold."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Connection, case, delete, exists, func, select, tuple_

from pipeline.shift.folding import LEVELS, POOLED, Part, TickKey
from pipeline.shift.rollup import CorruptRollUp, RollUp, decode, encode
from pipeline.shift.tick import Counts
from pipeline.storage.bulk import insert_many
from pipeline.storage.schema import ReferenceRow, RollUpPartRow, SegmentRow, TickRow, to_microseconds

_KEY = (TickRow.deployment_id, TickRow.reference_id, TickRow.minutes, TickRow.segment_id, TickRow.start)


class _NewTick(NamedTuple):
    """One row of `tick` in the database's own values."""

    deployment_id: int
    reference_id: int
    minutes: int
    segment_id: int
    start: int
    revision: int
    n: int
    flags: int
    repeats: int
    late_clocks: int
    score_sum: float
    score_squares: float
    energy_sum: float
    support_n: int
    support_sum: float
    histogram: bytes
    content: bytes


class StoredTick(NamedTuple):
    """A roll-up and how often it was changed after it was complete."""

    sums: RollUp
    revision: int


class Minute(NamedTuple):
    """One reference's minute; segments by key."""

    segments: dict[int, Counts]
    pooled: RollUp | None = None


class TickRetention(NamedTuple):
    """How long ticks of each level are kept."""

    minute: timedelta = timedelta(days=14)
    five_minutes: timedelta = timedelta(days=90)
    hour: timedelta = timedelta(days=730)
    day: timedelta = timedelta(days=3650)


def read_parts(conn: Connection, deployment_id: int, *, limit: int) -> list[Part]:
    """The oldest parts, by tick and key. Keys become visible out of order: fold what is read, delete what is folded."""
    rows = conn.execute(
        select(
            RollUpPartRow.id,
            RollUpPartRow.reference_id,
            RollUpPartRow.segment_id,
            RollUpPartRow.tick,
            RollUpPartRow.content,
        )
        .where(RollUpPartRow.deployment_id == deployment_id)
        .order_by(RollUpPartRow.tick, RollUpPartRow.id)
        .limit(limit)
    )
    return [
        Part(row.id, row.reference_id, row.segment_id or POOLED, row.tick, _sums_of(row.id, row.tick, row.content))
        for row in rows
    ]


def first_unfolded(conn: Connection, deployment_id: int, *, from_: datetime | None) -> datetime | None:
    """The oldest tick, at or after a time, of which a part waits to be folded."""
    statement = select(func.min(RollUpPartRow.tick)).where(RollUpPartRow.deployment_id == deployment_id)
    return conn.scalar(statement if from_ is None else statement.where(RollUpPartRow.tick >= from_))


def delete_parts(conn: Connection, ids: Sequence[int]) -> int:
    """Delete parts; return how many were there."""
    return conn.execute(delete(RollUpPartRow).where(RollUpPartRow.id.in_(ids))).rowcount


def first_beyond_cap(conn: Connection, deployment_id: int, cap: int) -> int | None:
    """The key of the first segment beyond the cap, counted in the order in which they came; None: there is none."""
    return conn.scalar(
        select(SegmentRow.id)
        .where(SegmentRow.deployment_id == deployment_id)
        .order_by(SegmentRow.id)
        .offset(cap)
        .limit(1)
    )


def segment_names(conn: Connection, deployment_id: int) -> dict[int, str]:
    """Names by key."""
    rows = conn.execute(select(SegmentRow.id, SegmentRow.name).where(SegmentRow.deployment_id == deployment_id))
    return {row.id: row.name for row in rows}


def counted_segment_names(conn: Connection, deployment_id: int) -> dict[int, str]:
    """Names by key of segments that have ticks: those that only drills have ever named have none."""
    has_ticks = exists().where(
        TickRow.deployment_id == SegmentRow.deployment_id,
        TickRow.reference_id.in_(select(ReferenceRow.id)),
        TickRow.minutes.in_(LEVELS),
        TickRow.segment_id == SegmentRow.id,
    )
    statement = select(SegmentRow.id, SegmentRow.name).where(SegmentRow.deployment_id == deployment_id, has_ticks)
    return {row.id: row.name for row in conn.execute(statement)}


def read_ticks(conn: Connection, deployment_id: int, keys: Iterable[TickKey]) -> dict[TickKey, StoredTick]:
    """The ticks of these keys, as far as there are any."""
    found: dict[TickKey, StoredTick] = {}
    for (start, minutes, reference_id), segments in _by_interval(keys):
        rows = conn.execute(
            select(TickRow.segment_id, TickRow.revision, TickRow.content).where(
                TickRow.deployment_id == deployment_id,
                TickRow.reference_id == reference_id,
                TickRow.minutes == minutes,
                TickRow.segment_id.in_(segments),
                TickRow.start == start,
            )
        )
        for row in rows:
            key = TickKey(start, minutes, reference_id, row.segment_id)
            found[key] = StoredTick(decode(row.content), row.revision)
    return found


def put_ticks(
    conn: Connection, deployment_id: int, ticks: Mapping[TickKey, StoredTick], *, replaced: Iterable[TickKey] = ()
) -> None:
    """Write ticks; `replaced` are those of them that are there already. Their deployment must have been claimed.

    Deleting and copying is several times as quick as upserts, most of all where nothing is there yet.
    """
    for (start, minutes, reference_id), segments in _by_interval(replaced):
        conn.execute(
            delete(TickRow).where(
                TickRow.deployment_id == deployment_id,
                TickRow.reference_id == reference_id,
                TickRow.minutes == minutes,
                TickRow.segment_id.in_(segments),
                TickRow.start == start,
            )
        )
    insert_many(conn, TickRow, _NewTick._fields, [_row(deployment_id, key, tick) for key, tick in ticks.items()])


def first_start(
    conn: Connection, deployment_id: int, minutes: int, *, from_: datetime | None = None
) -> datetime | None:
    """The start of the oldest tick of a level, at or after a time."""
    statement = select(func.min(TickRow.start)).where(
        TickRow.deployment_id == deployment_id, TickRow.minutes == minutes
    )
    return conn.scalar(statement if from_ is None else statement.where(TickRow.start >= from_))


def read_minutes(
    conn: Connection, deployment_id: int, start: datetime, end: datetime
) -> dict[datetime, dict[int, Minute]]:
    """What the detectors read of the minutes with start <= tick < end: by start, then by reference."""
    content = case((TickRow.segment_id == POOLED, TickRow.content))  # of segments, counts are enough
    rows = conn.execute(
        select(
            TickRow.start,
            TickRow.reference_id,
            TickRow.segment_id,
            TickRow.n,
            TickRow.flags,
            TickRow.histogram,
            content.label("content"),
        )
        .where(*_in_range(deployment_id, 1, start, end))
        .order_by(TickRow.start)
    )
    found: dict[datetime, dict[int, Minute]] = {}
    for row in rows:
        minute = found.setdefault(row.start, {}).setdefault(row.reference_id, Minute({}))
        if row.content is None:
            histogram = np.frombuffer(row.histogram, "<u4").astype(np.float64)
            minute.segments[row.segment_id] = Counts(row.n, row.flags, histogram)
        else:
            found[row.start][row.reference_id] = minute._replace(pooled=decode(row.content))
    return found


def stream_level(
    conn: Connection, deployment_id: int, minutes: int, start: datetime, end: datetime
) -> Iterator[tuple[TickKey, RollUp]]:
    """Ticks of a level with start <= tick < end, by reference, segment and start, decoded one by one.

    All rows are fetched at once: a cursor on the server would be left open by a server that goes away.
    """
    rows = conn.execute(
        select(TickRow.start, TickRow.reference_id, TickRow.segment_id, TickRow.content)
        .where(*_in_range(deployment_id, minutes, start, end))
        .order_by(TickRow.reference_id, TickRow.segment_id, TickRow.start)
    )
    for row in rows:
        yield TickKey(row.start, minutes, row.reference_id, row.segment_id), decode(row.content)


def delete_expired_ticks(
    conn: Connection,
    deployment_id: int,
    keep: TickRetention,
    *,
    now: datetime,
    needed_from: Mapping[int, datetime],
    chunk: int,
) -> int:
    """Delete at most `chunk` ticks of each level that are too old; return how many.

    Never what is still to be evaluated, replayed or made into a coarser level: `needed_from`, by minutes.
    """
    deleted = 0
    for minutes, age in zip(LEVELS, keep, strict=True):
        if minutes not in needed_from:
            continue
        old = (
            select(*_KEY)
            .where(
                TickRow.deployment_id == deployment_id,
                TickRow.minutes == minutes,
                TickRow.start < min(now - age, needed_from[minutes]),
            )
            .order_by(TickRow.start)
            .limit(chunk)
        )
        deleted += conn.execute(delete(TickRow).where(tuple_(*_KEY).in_(old))).rowcount
    return deleted


def _sums_of(part_id: int, tick: datetime, content: bytes) -> RollUp:
    try:
        return decode(content)
    except CorruptRollUp as error:
        raise CorruptRollUp(
            f"roll-up part {part_id} of tick {tick:%Y-%m-%dT%H:%MZ}: {error}; it was written by another release"
            " or damaged: run the release that wrote it, or delete the row"
        ) from error


def _by_interval(keys: Iterable[TickKey]) -> Iterator[tuple[tuple[datetime, int, int], list[int]]]:
    """Segments by (start, minutes, reference): one statement each finds its rows by the primary key."""
    for (start, minutes, reference_id), group in groupby(sorted(set(keys)), key=lambda key: key[:3]):
        yield (start, minutes, reference_id), [key.segment_id for key in group]


def _row(deployment_id: int, key: TickKey, tick: StoredTick) -> _NewTick:
    sums = tick.sums
    return _NewTick(
        deployment_id,
        key.reference_id,
        key.minutes,
        key.segment_id,
        to_microseconds(key.start),
        tick.revision,
        sums.n,
        sums.flags,
        sums.repeats,
        sums.late_clocks,
        sums.score_sum,
        sums.score_squares,
        sums.energy_sum,
        sums.support_n,
        sums.support_sum,
        sums.histogram.astype("<u4").tobytes(),
        encode(sums),
    )


def _in_range(deployment_id: int, minutes: int, start: datetime, end: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        TickRow.deployment_id == deployment_id,
        TickRow.minutes == minutes,
        TickRow.start >= start,
        TickRow.start < end,
    )
