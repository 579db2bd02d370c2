"""Drills: what has become of the images, and who is told. No incident is opened; no statistic sees any of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update

from pipeline.alerts.incident import DRILL, Action
from pipeline.storage.alert_schema import IncidentEventRow, IncidentRow, OutboxRow
from pipeline.storage.outbox import IS_WAITING, enqueue
from pipeline.storage.schema import DeadLetterRow, ReferenceRow, ScoreRow, SegmentRow, StreamRow

#: A record's own time and this machine's clock may lie so far apart.
_CLOCKS_APART = timedelta(hours=1)


class Scored(NamedTuple):
    """A drill's image that was scored."""

    id: str
    is_ood: bool
    segment: str
    model: str
    reference: str


class Outcome(NamedTuple):
    """How one channel was told."""

    channel: str
    attempts: int
    delivered: bool
    given_up: bool
    error: str | None


def scored(conn: Connection, deployment_id: int, ids: Sequence[str], *, about: datetime) -> list[Scored]:
    """Those that are stored by now, of images sent at about that time."""
    rows = (
        select(ScoreRow.id, ScoreRow.is_ood, SegmentRow.name, ReferenceRow.model_id, ReferenceRow.name)
        .join(StreamRow, StreamRow.id == ScoreRow.stream_id)
        .join(SegmentRow, SegmentRow.id == ScoreRow.segment_id)
        .join(ReferenceRow, ReferenceRow.id == ScoreRow.reference_id)
        .where(
            ScoreRow.event_time.between(about - _CLOCKS_APART, about + _CLOCKS_APART),
            StreamRow.deployment_id == deployment_id,
            ScoreRow.drill.in_([True]),
            ScoreRow.id.in_(ids),
        )
    )
    return [Scored._make(row) for row in conn.execute(rows)]


def dead(conn: Connection, deployment_id: int, ids: Sequence[str], *, since: datetime) -> dict[str, str]:
    """Those that could not be scored, with the reason."""
    rows = (
        select(DeadLetterRow.id, DeadLetterRow.reason)
        .join(StreamRow, StreamRow.id == DeadLetterRow.stream_id)
        .where(
            DeadLetterRow.at >= since - _CLOCKS_APART,
            StreamRow.deployment_id == deployment_id,
            DeadLetterRow.id.in_(ids),
        )
    )
    return {row.id: row.reason for row in conn.execute(rows)}


def begin_drill(conn: Connection, deployment_id: int, *, who: str, now: datetime, until: datetime) -> int:
    """Something to be told that is over from its beginning on: for Alertmanager at `until`. Its key."""
    values = {"handling": "resolved", "state": "ok", "peak": "ok", "provisional": False, "handled_by": who}
    key: int = conn.execute(
        insert(IncidentRow)
        .values(deployment_id=deployment_id, kind=DRILL, onset=now, opened_at=now, resolved_at=until, **values)
        .returning(IncidentRow.id)
    ).scalar_one()
    return key


def tell_drill(
    conn: Connection,
    drill_id: int,
    payload: Mapping[str, Any],
    channels: Sequence[str],
    *,
    who: str,
    now: datetime,
    until: datetime,
) -> None:
    """Have it told now, and on the same channels, at `until`, that it is over."""
    turns: Sequence[tuple[Action, datetime]] = (("trigger", now), ("resolve", until))
    for action, at in turns:
        said = {**payload, "at": at.isoformat()}
        event: int = conn.execute(
            insert(IncidentEventRow)
            .values(incident_id=drill_id, at=at, kind="note", who=who, why="drill", payload=said)
            .returning(IncidentEventRow.id)
        ).scalar_one()
        enqueue(conn, event, drill_id, action, {**said, "transition": event}, channels, at)


def outcomes(conn: Connection, drill_id: int) -> list[Outcome]:
    """How each channel was told that there is a drill."""
    row = OutboxRow
    told = row.delivered_at.is_not(None), row.given_up_at.is_not(None)
    rows = conn.execute(
        select(row.channel, row.attempts, *told, row.last_error)
        .where(row.incident_id == drill_id, row.action == "trigger")
        .order_by(row.id)
    )
    return [Outcome(*one) for one in rows]


def end_drill(conn: Connection, drill_id: int, *, at: datetime) -> int:
    """What has not been told by now never is, nor its end: nobody is to be woken by an old drill; how many channels."""
    untold = select(OutboxRow.channel).where(
        IS_WAITING, OutboxRow.incident_id == drill_id, OutboxRow.action == "trigger"
    )
    channels = conn.scalars(untold).all()
    late = IS_WAITING, OutboxRow.incident_id == drill_id, OutboxRow.channel.in_(channels)
    conn.execute(update(OutboxRow).where(*late).values(given_up_at=at, last_error="the drill was over before"))
    return len(channels)
