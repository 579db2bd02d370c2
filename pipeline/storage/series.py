"""Ticks as charts read them: counts by bucket, never a row of a single image."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, Double, and_, case, cast, func, literal, or_, select, type_coerce

from pipeline.shift.folding import LEVELS, POOLED
from pipeline.shift.rollup import RollUp, decode
from pipeline.storage.schema import MICROSECOND, TickRow, from_microseconds


class Bucket(NamedTuple):
    """Counts of one segment in [start, start + width); the shares are those of its lowest and its highest tick."""

    segment_id: int  # 0: all traffic
    start: datetime
    n: int
    flags: int
    low: float
    high: float
    repeats: int

    @property
    def share(self) -> float:
        """Flagged of all; a bucket without an image does not exist."""
        return self.flags / self.n


class Totals(NamedTuple):
    """Counts of one segment."""

    n: int
    flags: int


def oldest_ticks(conn: Connection, deployment_id: int) -> dict[int, datetime]:
    """Where each level begins, by minutes; a level without a tick is left out."""
    found = {}
    for minutes in LEVELS:
        mine = TickRow.deployment_id == deployment_id, TickRow.minutes == minutes
        if (oldest := conn.scalar(select(func.min(TickRow.start)).where(*mine))) is not None:
            found[minutes] = oldest
    return found


def read_buckets(
    conn: Connection,
    deployment_id: int,
    references: Sequence[int],
    spans: Sequence[tuple[int, datetime, datetime]],
    width: timedelta,
    segments: Sequence[int] | None,
    without: Sequence[int] = (),
) -> list[Bucket]:
    """Buckets by segment and start, of one or all segments, of all these references together.

    Args:
        spans: (minutes, start, end) of the levels to read, of which none overlap.
        segments: keys, `POOLED` for all traffic; None: every segment, and not all traffic.
        without: segments that are left out of all traffic, and of what is read.
    """
    found: dict[tuple[int, datetime], Bucket] = {}
    for minutes, start, end in spans:
        span = minutes, start, end
        for bucket in _read_span(conn, deployment_id, references, span, width, segments, without):
            key = bucket.segment_id, bucket.start
            found[key] = bucket if key not in found else _joined(found[key], bucket)
    return [found[key] for key in sorted(found)]


def read_totals(
    conn: Connection, deployment_id: int, references: Sequence[int], spans: Sequence[tuple[int, datetime, datetime]]
) -> dict[int, Totals]:
    """Counts over spans by segment, `POOLED` for all traffic."""
    found: dict[int, Totals] = {}
    for minutes, start, end in spans:
        statement = (
            select(TickRow.segment_id, func.sum(TickRow.n).label("n"), func.sum(TickRow.flags).label("flags"))
            .where(
                TickRow.deployment_id == deployment_id,
                TickRow.reference_id.in_(references),
                TickRow.minutes == minutes,
                TickRow.start >= start,
                TickRow.start < end,
            )
            .group_by(TickRow.segment_id)
        )
        for row in conn.execute(statement):
            before = found.get(row.segment_id, Totals(0, 0))
            found[row.segment_id] = Totals(before.n + int(row.n), before.flags + int(row.flags))
    return found


def read_sums(
    conn: Connection,
    deployment_id: int,
    reference_id: int,
    segment_id: int,
    spans: Sequence[tuple[int, datetime, datetime]],
) -> list[tuple[datetime, RollUp]]:
    """Whole roll-ups of one segment under one reference, oldest first."""
    found: list[tuple[datetime, RollUp]] = []
    for minutes, start, end in spans:
        rows = conn.execute(
            select(TickRow.start, TickRow.content)
            .where(
                TickRow.deployment_id == deployment_id,
                TickRow.reference_id == reference_id,
                TickRow.minutes == minutes,
                TickRow.segment_id == segment_id,
                TickRow.start >= start,
                TickRow.start < end,
            )
            .order_by(TickRow.start)
        )
        found += [(row.start, decode(row.content)) for row in rows]
    return found


def spans_of(
    start: datetime, end: datetime, coarsest: int, made_until: Mapping[int, datetime]
) -> list[tuple[int, datetime, datetime]]:
    """Which levels to read, so that [start, end) is covered once: the coarsest as far as it is made, then finer ones.

    `start` is to lie on a tick of the coarsest level.
    """
    found, at = [], start
    for minutes in reversed([level for level in LEVELS if level <= coarsest]):
        until = end if minutes == LEVELS[0] else min(end, made_until.get(minutes, start))
        if until > at:
            found.append((minutes, at, until))
            at = until
    return found


def _read_span(
    conn: Connection,
    deployment_id: int,
    references: Sequence[int],
    span: tuple[int, datetime, datetime],
    width: timedelta,
    segments: Sequence[int] | None,
    without: Sequence[int],
) -> list[Bucket]:
    minutes, start, end = span
    left_out = TickRow.segment_id.in_(without)
    chosen = TickRow.segment_id != POOLED if segments is None else TickRow.segment_id.in_(segments)
    if without and segments is not None and POOLED in segments:
        chosen = or_(chosen, left_out)
    elif without:
        chosen = and_(chosen, TickRow.segment_id.not_in(without))
    # What is left out is counted against all traffic, tick by tick: the lowest and highest tick are those of the rest.
    sign = case((left_out, -1), else_=1) if without else literal(1)
    key = case((left_out, POOLED), else_=TickRow.segment_id) if without else TickRow.segment_id
    tick = (
        select(
            key.label("segment_id"),
            type_coerce(TickRow.start, BigInteger).label("start"),
            func.sum(sign * TickRow.n).label("n"),
            func.sum(sign * TickRow.flags).label("flags"),
            func.sum(sign * TickRow.repeats).label("repeats"),
        )
        .where(
            TickRow.deployment_id == deployment_id,
            TickRow.reference_id.in_(references),
            TickRow.minutes == minutes,
            chosen,
            TickRow.start >= start,
            TickRow.start < end,
            TickRow.n > 0,
        )
        .group_by(key, TickRow.start)
        .subquery()
    )
    at = tick.c.start // (width // MICROSECOND)
    share = cast(tick.c.flags, Double) / tick.c.n
    statement = (
        select(
            tick.c.segment_id,
            at.label("bucket"),
            func.sum(tick.c.n).label("n"),
            func.sum(tick.c.flags).label("flags"),
            func.min(share).label("low"),
            func.max(share).label("high"),
            func.sum(tick.c.repeats).label("repeats"),
        )
        .where(tick.c.n > 0)
        .group_by(tick.c.segment_id, at)
    )
    return [
        Bucket(
            int(row.segment_id),
            from_microseconds(int(row.bucket) * (width // MICROSECOND)),
            int(row.n),
            int(row.flags),
            float(row.low),
            float(row.high),
            int(row.repeats),
        )
        for row in conn.execute(statement)
    ]


def _joined(left: Bucket, right: Bucket) -> Bucket:
    return left._replace(
        n=left.n + right.n,
        flags=left.flags + right.flags,
        low=min(left.low, right.low),
        high=max(left.high, right.high),
        repeats=left.repeats + right.repeats,
    )
