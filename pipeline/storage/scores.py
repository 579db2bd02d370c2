"""Scored images and dead letters: exactly one of the two for every offset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, literal_column, select
from sqlalchemy.orm import aliased

from pipeline.storage.bulk import insert_many
from pipeline.storage.partitions import day_of, ensure_days
from pipeline.storage.schema import (
    DeadLetterRow,
    DeploymentRow,
    ReferenceRow,
    ScoreRow,
    SegmentRow,
    StreamRow,
)


class NewScore(NamedTuple):
    """One row of `score` in the database's own values: times in microseconds, booleans 0 or 1."""

    stream_id: int
    offset: int
    event_time: int
    clock: int
    segment_id: int
    reference_id: int
    id: str | None
    key: bytes | None
    label: str | None
    value_sha256: bytes
    class_index: int
    energy: float
    score: float
    msp: float
    is_ood: int
    repeat: int
    drill: int
    support: float | None = None


class NewDeadLetter(NamedTuple):
    """One row of `dead_letter` in the database's own values."""

    stream_id: int
    offset: int
    stage: str
    reason: str
    error: str
    at: int
    record_time: int | None
    id: str | None
    key: bytes | None
    segment: str | None
    value_size: int | None
    value_sha256: bytes | None


@dataclass(frozen=True, slots=True)
class ExportedScore:
    """One scored image as `oodwatch export scores` writes it; the field order is the column order."""

    deployment: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    event_time: datetime
    id: str | None
    segment: str
    label: str | None
    class_index: int
    energy: float
    score: float
    msp: float
    is_ood: bool
    value_sha256: str
    model: str
    reference: str


@dataclass(frozen=True, slots=True)
class DeadLetterLine:
    """One dead letter as `oodwatch dead-letters` prints it."""

    deployment: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    stage: str
    reason: str
    error: str
    at: datetime
    id: str | None
    segment: str | None
    value_size: int | None


def insert_scores(conn: Connection, rows: Sequence[NewScore]) -> None:
    """Append scored images; the caller's transaction has moved the cursor over their offsets."""
    if not rows:
        return
    ensure_days(conn, {day_of(row.event_time) for row in rows})
    insert_many(conn, ScoreRow, NewScore._fields, rows)


def insert_dead_letters(conn: Connection, rows: Sequence[NewDeadLetter]) -> None:
    """Append dead letters; the caller's transaction has moved the cursor over their offsets."""
    insert_many(conn, DeadLetterRow, NewDeadLetter._fields, rows)


def exported_scores(
    conn: Connection,
    *,
    deployment: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Iterator[ExportedScore]:
    """All scored images with start <= event time < end, by stream and offset, in constant memory."""
    statement = _exported(start, end).order_by(ScoreRow.stream_id, ScoreRow.offset)
    if deployment is not None:
        statement = statement.where(DeploymentRow.name == deployment)
    for row in conn.execute(statement, execution_options={"yield_per": 10_000}):
        yield _as_exported(tuple(row))


def flagged_scores(
    conn: Connection, deployment: str, start: datetime, end: datetime, *, segments: Sequence[int], limit: int
) -> list[ExportedScore]:
    """The newest `limit` flagged images of these segments with start <= event time < end; drills are left out."""
    newest = aliased(
        ScoreRow,
        select(ScoreRow)
        .where(
            ScoreRow.is_ood == literal_column("1"),  # as a constant, or the partial index is not seen
            ScoreRow.event_time >= start,
            ScoreRow.event_time < end,
            ScoreRow.drill.in_([False]),
            ScoreRow.segment_id.in_(segments),
        )
        .order_by(ScoreRow.event_time.desc(), ScoreRow.stream_id, ScoreRow.offset)
        .limit(limit)
        .subquery(),
    )
    order = newest.event_time.desc(), newest.stream_id, newest.offset
    statement = _exported(None, None, of=newest).where(DeploymentRow.name == deployment).order_by(*order)
    return [_as_exported(tuple(row)) for row in conn.execute(statement)]


def _exported(
    start: datetime | None, end: datetime | None, *, of: type[ScoreRow] = ScoreRow
) -> Select[*tuple[Any, ...]]:
    statement: Select[*tuple[Any, ...]] = (
        select(
            DeploymentRow.name,
            StreamRow.topic,
            StreamRow.topic_id,
            StreamRow.partition,
            of.offset,
            of.event_time,
            of.id,
            SegmentRow.name,
            of.label,
            of.class_index,
            of.energy,
            of.score,
            of.msp,
            of.is_ood,
            of.value_sha256,
            ReferenceRow.model_id,
            ReferenceRow.name,
        )
        .select_from(of)
        .join(StreamRow, StreamRow.id == of.stream_id)
        .join(DeploymentRow, DeploymentRow.id == StreamRow.deployment_id)
        .join(SegmentRow, SegmentRow.id == of.segment_id)
        .join(ReferenceRow, ReferenceRow.id == of.reference_id)
    )
    if start is not None:
        statement = statement.where(of.event_time >= start)
    return statement if end is None else statement.where(of.event_time < end)


def _as_exported(values: tuple[Any, ...]) -> ExportedScore:
    return ExportedScore(*(*values[:14], values[14].hex(), *values[15:]))


def dead_letters(
    conn: Connection,
    *,
    deployment: str | None = None,
    reason: str | None = None,
    limit: int | None = None,
) -> Iterator[DeadLetterLine]:
    """Dead letters, newest first."""
    statement = (
        select(
            DeploymentRow.name,
            StreamRow.topic,
            StreamRow.topic_id,
            StreamRow.partition,
            DeadLetterRow.offset,
            DeadLetterRow.stage,
            DeadLetterRow.reason,
            DeadLetterRow.error,
            DeadLetterRow.at,
            DeadLetterRow.id,
            DeadLetterRow.segment,
            DeadLetterRow.value_size,
        )
        .join(StreamRow, StreamRow.id == DeadLetterRow.stream_id)
        .join(DeploymentRow, DeploymentRow.id == StreamRow.deployment_id)
        .order_by(DeadLetterRow.at.desc(), DeadLetterRow.stream_id.desc(), DeadLetterRow.offset.desc())
        .limit(limit)
    )
    if deployment is not None:
        statement = statement.where(DeploymentRow.name == deployment)
    if reason is not None:
        statement = statement.where(DeadLetterRow.reason == reason)
    for row in conn.execute(statement, execution_options={"yield_per": 10_000}):
        values: tuple[Any, ...] = tuple(row)
        yield DeadLetterLine(*values)


def stored_scores(
    conn: Connection, deployment_id: int, reference_id: int, start: datetime, end: datetime
) -> Iterator[tuple[Sequence[float], Sequence[int]]]:
    """Scores and classes of a reference's images with start <= event time < end, in pieces; drills are left out."""
    streams = select(StreamRow.id).where(StreamRow.deployment_id == deployment_id)
    statement = select(ScoreRow.score, ScoreRow.class_index).where(
        ScoreRow.event_time >= start,
        ScoreRow.event_time < end,
        ScoreRow.stream_id.in_(streams),
        ScoreRow.reference_id == reference_id,
        ScoreRow.drill == 0,
    )
    for rows in conn.execute(statement, execution_options={"yield_per": 10_000}).partitions():
        scores, classes = zip(*rows, strict=True)
        yield scores, classes
