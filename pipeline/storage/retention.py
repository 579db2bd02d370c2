"""Retention in chunks: short transactions, so that no writer waits long."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, not_, select, tuple_

from pipeline.storage.alert_schema import IncidentRow, OutboxRow
from pipeline.storage.explanation_schema import ExplanationRow
from pipeline.storage.label_schema import LabelRow
from pipeline.storage.outbox import IS_WAITING
from pipeline.storage.review_schema import ReviewRow
from pipeline.storage.samples import trim_oldest
from pipeline.storage.schema import DeadLetterRow, RollUpPartRow, SampleRow, ScoreRow, Table


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """How long rows are kept and how many samples, and explanations of them, there may be."""

    keep: timedelta = timedelta(days=730)
    max_samples: int = 200_000


def delete_expired(conn: Connection, limits: RetentionLimits, *, now: datetime, chunk: int = 2_000) -> int:
    """Delete at most `chunk` old rows of each table; return how many; zero: nothing is left to do.

    Scores on PostgreSQL go by whole days instead, see `partitions.drop_expired_day`.
    """
    horizon = now - limits.keep
    deleted = sum(trim_oldest(conn, table, limits.max_samples, chunk) for table in (SampleRow, ExplanationRow))
    tables: list[tuple[type[Table], Any]] = [
        (DeadLetterRow, DeadLetterRow.at),
        (SampleRow, SampleRow.event_time),
        (ExplanationRow, ExplanationRow.event_time),
        (RollUpPartRow, RollUpPartRow.tick),
        (LabelRow, LabelRow.event_time),
        (ReviewRow, ReviewRow.event_time),
    ]
    if conn.dialect.name == "sqlite":
        tables.append((ScoreRow, ScoreRow.event_time))
    for table, time in tables:
        deleted += _delete_chunk(conn, table, time < horizon, chunk)
    return deleted + _delete_chunk(conn, OutboxRow, _is_past(horizon), chunk)


def _is_past(horizon: datetime) -> ColumnElement[bool]:
    """Told or given up, of an incident that is over: what stands is told from the outbox again and again."""
    over = select(IncidentRow.id).where(IncidentRow.resolved_at < horizon)
    return and_(OutboxRow.created_at < horizon, not_(IS_WAITING), OutboxRow.incident_id.in_(over))


def _delete_chunk(conn: Connection, table: type[Table], condition: Any, chunk: int) -> int:
    key = list(table.__table__.primary_key)
    old = select(*key).where(condition).limit(chunk).with_for_update(skip_locked=True)
    return conn.execute(delete(table).where(tuple_(*key).in_(old))).rowcount
