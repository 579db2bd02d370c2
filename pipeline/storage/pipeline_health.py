"""What the health rules look at: cursors, counts of the last hour, heartbeats, how far detectors are."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select
from sqlalchemy.orm import InstrumentedAttribute

from pipeline.alerts.snapshot import WINDOW, Disk, Partition, Snapshot, Worker
from pipeline.shift.folding import POOLED
from pipeline.storage.model_events import newest_activation, refusals
from pipeline.storage.monitoring import Watched
from pipeline.storage.processes import list_processes
from pipeline.storage.schema import (
    DeadLetterRow,
    DeploymentRow,
    ReferenceRow,
    SegmentRow,
    StreamGapRow,
    StreamRow,
    TickRow,
    VerdictRow,
)

_CHANGING = timedelta(minutes=10)  # a deployment's workers may be replaced one after another


def read_snapshot(
    conn: Connection, deployment: Watched, disk: Disk | None, *, pace: float = 1.0, headroom: float = 0.2, now: datetime
) -> Snapshot:
    """One deployment at this moment; `pace` and `headroom` are those of the snapshot."""
    chosen = newest_activation(conn, deployment.id)
    return Snapshot(
        now=now,
        pace=pace,
        headroom=headroom,
        partitions=_partitions(conn, deployment.id),
        scored=_scored(conn, deployment.id, now - WINDOW),
        dead=dead_letters(conn, deployment.id, now - WINDOW),
        lost=lost(conn, deployment.id, now - WINDOW),
        skewed=_skewed(conn, deployment.id, now - WINDOW),
        workers=_workers(conn, deployment.name),
        disk=disk,
        imaged=_imaged(conn, deployment),
        judged_until=conn.scalar(
            select(func.max(VerdictRow.tick)).where(
                VerdictRow.deployment_id == deployment.id, VerdictRow.reference_id == deployment.reference_id
            )
        ),
        chosen=chosen is not None,
        refused=None if chosen is None else refusals(conn, chosen),
        mixed=why_invalid(conn, deployment, now=now),
    )


def _partitions(conn: Connection, deployment_id: int) -> tuple[Partition, ...]:
    """Those of the log that is read now: of others nobody expects anything."""
    rows = conn.execute(
        select(StreamRow.__table__).where(StreamRow.deployment_id == deployment_id).order_by(StreamRow.updated_at)
    ).all()
    return tuple(
        Partition(
            f"{row.topic}/{row.partition}",
            max(0, row.log_end - row.next_offset),
            row.updated_at,
            row.newest_event_time,
            None if row.retention_ms is None else timedelta(milliseconds=row.retention_ms),
            max(filter(None, (row.record_time, row.caught_up_at)), default=None),
            _ahead(row),
        )
        for row in rows
        if (row.topic, row.topic_id) == (rows[-1].topic, rows[-1].topic_id)
    )


def _ahead(row: Row[Any]) -> float | None:
    """Nothing of a log that has not begun to delete."""
    if row.retention_bytes is None or not row.log_start or row.log_end <= row.log_start:
        return None
    return max(0.0, float(row.next_offset - row.log_start) / float(row.log_end - row.log_start))


def _scored(conn: Connection, deployment_id: int, since: datetime) -> int:
    total = select(func.sum(TickRow.n)).where(*_minutes(deployment_id, since), TickRow.segment_id == POOLED)
    return int(conn.scalar(total) or 0)


def dead_letters(
    conn: Connection, deployment_id: int, since: datetime, until: datetime | None = None
) -> Mapping[str, int]:
    """How many, by reason, of records that were made since then, too, as those that are counted as scored."""
    rows = conn.execute(
        select(DeadLetterRow.reason, func.count())
        .join(StreamRow, StreamRow.id == DeadLetterRow.stream_id)
        .where(
            StreamRow.deployment_id == deployment_id,
            *_within(DeadLetterRow.at, since, until),
            func.coalesce(DeadLetterRow.record_time, DeadLetterRow.at) >= since,
        )
        .group_by(DeadLetterRow.reason)
        .order_by(DeadLetterRow.reason)
    )
    return {row[0]: row[1] for row in rows}


def lost(conn: Connection, deployment_id: int, since: datetime, until: datetime | None = None) -> int:
    """Records that the log no longer held, or not whole, when they were to be read."""
    gap = StreamGapRow
    statement = (
        select(func.sum(gap.to_offset - gap.from_offset))
        .join(StreamRow, StreamRow.id == gap.stream_id)
        .where(StreamRow.deployment_id == deployment_id, *_within(gap.at, since, until), gap.reason != "skipped")
    )
    return int(conn.scalar(statement) or 0)


def _skewed(conn: Connection, deployment_id: int, since: datetime) -> Mapping[str, tuple[int, int]]:
    """By five minutes: a fifth of the rows."""
    rows = conn.execute(
        select(SegmentRow.name, func.sum(TickRow.late_clocks), func.sum(TickRow.n))
        .join(SegmentRow, SegmentRow.id == TickRow.segment_id)
        .where(TickRow.deployment_id == deployment_id, TickRow.minutes == 5, TickRow.start >= since)
        .group_by(SegmentRow.name)
        .order_by(SegmentRow.name)
    )
    return {name: (int(late), int(n)) for name, late, n in rows}


def _workers(conn: Connection, deployment: str) -> tuple[Worker, ...]:
    return tuple(
        Worker(
            one.name,
            one.started_at,
            one.beat_at,
            bool(one.state.get("ready")),
            tuple(one.state.get("reasons", ())),
            float(one.state.get("images_per_second", 0.0)),
        )
        for one in list_processes(conn)
        if one.role == "worker" and one.deployment == deployment
    )


def _imaged(conn: Connection, deployment: Watched) -> tuple[datetime, datetime] | None:
    first, newest = (
        conn.scalar(
            select(end(TickRow.start)).where(
                TickRow.deployment_id == deployment.id,
                TickRow.reference_id == deployment.reference_id,
                TickRow.minutes == 1,
                TickRow.segment_id == POOLED,
            )
        )
        for end in (func.min, func.max)  # each is one look into the index; together they would read all of it
    )
    return None if first is None or newest is None else (first, newest)


def why_invalid(conn: Connection, deployment: Watched, *, now: datetime) -> str | None:
    """Why scores cannot be held against the reference: another model's images, or a reference of another model."""
    row = conn.execute(
        select(DeploymentRow.model_id, DeploymentRow.updated_at, ReferenceRow.name, ReferenceRow.model_id.label("of"))
        .join(ReferenceRow, ReferenceRow.id == DeploymentRow.reference_id)
        .where(DeploymentRow.id == deployment.id)
    ).one()
    if row.model_id != row.of:
        return (
            f"model {row.model_id} is held against reference {row.name}, which was made with {row.of}: their scores"
            " cannot be compared; run `oodwatch calibrate` with this model and restart its workers"
        )
    since = max(now - WINDOW, row.updated_at + _CHANGING)
    others = conn.execute(
        select(ReferenceRow.name, ReferenceRow.model_id, func.sum(TickRow.n).label("n"))
        .join(ReferenceRow, ReferenceRow.id == TickRow.reference_id)
        .where(
            *_minutes(deployment.id, since),
            TickRow.segment_id == POOLED,
            TickRow.reference_id != deployment.reference_id,
        )
        .group_by(ReferenceRow.name, ReferenceRow.model_id)
        .order_by(ReferenceRow.name)
    ).all()
    if not others:
        return None
    most = max(others, key=lambda other: other.n)
    return (
        f"{int(most.n):,} images since {since:%Y-%m-%dT%H:%MZ} were scored with reference {most.name} (model"
        f" {most.model_id}) while {row.name} (model {row.of}) counts: two cannot be judged as one; stop the workers of"
        " the one that should not run, or give them a --deployment of their own"
    )


def _minutes(deployment_id: int, since: datetime) -> tuple[ColumnElement[bool], ...]:
    return TickRow.deployment_id == deployment_id, TickRow.minutes == 1, TickRow.start >= since


def _within(
    time: InstrumentedAttribute[datetime], since: datetime, until: datetime | None
) -> list[ColumnElement[bool]]:
    return [time >= since] if until is None else [time >= since, time < until]
