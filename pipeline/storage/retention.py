"""Retention in chunks: short transactions, so that no writer waits long."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select, tuple_

from pipeline.storage.explanation_schema import ExplanationRow
from pipeline.storage.label_schema import LabelRow
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
    ]
    if conn.dialect.name == "sqlite":
        tables.append((ScoreRow, ScoreRow.event_time))
    for table, time in tables:
        deleted += _delete_chunk(conn, table, time < horizon, chunk)
    return deleted


def _delete_chunk(conn: Connection, table: type[Table], condition: Any, chunk: int) -> int:
    key = list(table.__table__.primary_key)
    old = select(*key).where(condition).limit(chunk).with_for_update(skip_locked=True)
    return conn.execute(delete(table).where(tuple_(*key).in_(old))).rowcount
