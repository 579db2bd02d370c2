"""Stored minutes of one reference, read again: by people's commands, not by the monitor."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Select, func, select

from pipeline.records import Float64s
from pipeline.shift.folding import POOLED
from pipeline.shift.rollup import RollUp, decode
from pipeline.storage.schema import TickRow

_CHUNK = 500  # rows in memory


class SegmentMinute(NamedTuple):
    """What the detector reads of one segment."""

    start: datetime
    n: int
    flags: int
    histogram: Float64s  # (18,)


def first_minute(conn: Connection, deployment_id: int, reference_id: int) -> datetime | None:
    """The start of the oldest minute that is still stored; None: there is none."""
    found: datetime | None = conn.scalar(_of(select(func.min(TickRow.start)), deployment_id, reference_id, POOLED))
    return found


def references_within(conn: Connection, deployment_id: int, start: datetime, end: datetime) -> list[int]:
    """Keys of the references that scored images of start <= minute < end."""
    statement = select(TickRow.reference_id).where(
        TickRow.deployment_id == deployment_id,
        TickRow.minutes == 1,
        TickRow.start >= start,
        TickRow.start < end,
        TickRow.segment_id == POOLED,
    )
    return sorted(conn.scalars(statement.distinct()))


def pooled_minutes(
    conn: Connection, deployment_id: int, reference_id: int, start: datetime, end: datetime, minutes: int = 1
) -> Iterator[tuple[datetime, RollUp]]:
    """All traffic of the ticks of a level with images in start <= tick < end, in order, in constant memory."""
    columns = (TickRow.start, TickRow.content)
    rows = _within(columns, deployment_id, reference_id, POOLED, start, end, minutes)
    for row in conn.execute(rows, execution_options={"yield_per": _CHUNK}):
        yield row.start, decode(row.content)


def segment_minutes(
    conn: Connection,
    deployment_id: int,
    reference_id: int,
    segment_id: int,
    start: datetime,
    end: datetime,
    minutes: int = 1,
) -> Iterator[SegmentMinute]:
    """The same of one segment, without what only all traffic is judged by."""
    columns = (TickRow.start, TickRow.n, TickRow.flags, TickRow.histogram)
    rows = _within(columns, deployment_id, reference_id, segment_id, start, end, minutes)
    for row in conn.execute(rows, execution_options={"yield_per": _CHUNK}):
        yield SegmentMinute(row.start, row.n, row.flags, np.frombuffer(row.histogram, "<u4").astype(np.float64))


def _within(
    columns: tuple[Any, ...],
    deployment_id: int,
    reference_id: int,
    segment_id: int,
    start: datetime,
    end: datetime,
    minutes: int,
) -> Select[Any]:
    window = (TickRow.start >= start, TickRow.start < end)
    return (
        _of(select(*columns), deployment_id, reference_id, segment_id, minutes).where(*window).order_by(TickRow.start)
    )


def _of(
    statement: Select[Any], deployment_id: int, reference_id: int, segment_id: int, minutes: int = 1
) -> Select[Any]:
    return statement.where(
        TickRow.deployment_id == deployment_id,
        TickRow.reference_id == reference_id,
        TickRow.minutes == minutes,
        TickRow.segment_id == segment_id,
    )
