"""How well a reference supports production, as charts read it: sums of ticks, never a row of a single image."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Connection, func, select, type_coerce

from pipeline.storage.schema import MICROSECOND, TickRow, from_microseconds

Key = TypeVar("Key")
Spans = Sequence[tuple[int, datetime, datetime]]  # (minutes, start, end) of levels, of which none overlap


class SupportSum(NamedTuple):
    """Images whose support is known, and its sum; the mean is P-precision."""

    n: int
    total: float

    @property
    def mean(self) -> float:
        """P-precision of them; there is no sum of no image."""
        return self.total / self.n


def support_over_time(
    conn: Connection, deployment_id: int, reference_id: int, spans: Spans, width: timedelta, segments: Sequence[int]
) -> dict[tuple[int, datetime], SupportSum]:
    """By segment (`POOLED`: all traffic) and the start of the bucket of that width."""
    at = type_coerce(TickRow.start, BigInteger) // (width // MICROSECOND)
    found: dict[tuple[int, datetime], SupportSum] = {}
    for span in spans:
        statement = (
            select(TickRow.segment_id, at, func.sum(TickRow.support_n), func.sum(TickRow.support_sum))
            .where(*_within(deployment_id, reference_id, span), TickRow.segment_id.in_(segments))
            .group_by(TickRow.segment_id, at)
        )
        for segment, bucket, n, total in conn.execute(statement):
            _add(found, (segment, from_microseconds(int(bucket) * (width // MICROSECOND))), n, total)
    return found


def support_by_segment(conn: Connection, deployment_id: int, reference_id: int, spans: Spans) -> dict[int, SupportSum]:
    """Over all spans, by segment; `POOLED` for all traffic."""
    found: dict[int, SupportSum] = {}
    for span in spans:
        statement = (
            select(TickRow.segment_id, func.sum(TickRow.support_n), func.sum(TickRow.support_sum))
            .where(*_within(deployment_id, reference_id, span))
            .group_by(TickRow.segment_id)
        )
        for segment, n, total in conn.execute(statement):
            _add(found, segment, n, total)
    return found


def _within(
    deployment_id: int, reference_id: int, span: tuple[int, datetime, datetime]
) -> tuple[ColumnElement[bool], ...]:
    minutes, start, end = span
    return (
        TickRow.deployment_id == deployment_id,
        TickRow.reference_id == reference_id,
        TickRow.minutes == minutes,
        TickRow.start >= start,
        TickRow.start < end,
        TickRow.support_n > 0,
    )


def _add(found: dict[Key, SupportSum], key: Key, n: int, total: float) -> None:
    before = found.get(key, SupportSum(0, 0.0))
    found[key] = SupportSum(before.n + int(n), before.total + float(total))
