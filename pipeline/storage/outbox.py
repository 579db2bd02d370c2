"""What is to be told, on which channel, and what has become of it. In order for each incident on each channel."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from pipeline.alerts.incident import Action
from pipeline.alerts.notification import Notification
from pipeline.alerts.plain import finite
from pipeline.alerts.standing import Standing
from pipeline.storage.alert_schema import IncidentRow, OutboxRow
from pipeline.storage.schema import DeploymentRow

_LONGEST_ERROR = 500
#: Neither told nor given up.
IS_WAITING = and_(OutboxRow.delivered_at.is_(None), OutboxRow.given_up_at.is_(None))


@dataclass(frozen=True, slots=True)
class Due:
    """A notification whose turn has come."""

    id: int
    channel: str
    attempts: int  # begun so far
    notification: Notification


@dataclass(frozen=True, slots=True)
class Waiting:
    """Notifications of a channel that are neither told nor given up."""

    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class ChannelState:
    """All that a channel was to tell."""

    channel: str
    waiting: int
    delivered: int
    given_up: int
    oldest_waiting: datetime | None
    last_delivered: datetime | None
    last_error: str | None  # of what still waits or was given up


def enqueue(
    conn: Connection,
    event_id: int,
    incident_id: int,
    action: Action,
    payload: Mapping[str, Any],
    channels: Sequence[str],
    now: datetime,
) -> None:
    """Have an event told on these channels, in the transaction that stores it."""
    row = {
        "event_id": event_id,
        "incident_id": incident_id,
        "action": action,
        "payload": finite(payload),
        "created_at": now,
        "next_try_at": now,
        "attempts": 0,
    }
    if channels:
        conn.execute(insert(OutboxRow), [{**row, "channel": channel} for channel in dict.fromkeys(channels)])


def due(conn: Connection, channels: Sequence[str], *, now: datetime, deployment: str | None = None) -> list[Due]:
    """For each of these channels the notification that has waited longest for its turn, if there is one.

    Of an incident only the earliest that waits can have a turn: a later one never overtakes it.
    """
    firsts = (
        select(OutboxRow.channel, func.min(OutboxRow.event_id).label("event_id"))
        .where(IS_WAITING, OutboxRow.channel.in_(channels))
        .group_by(OutboxRow.channel, OutboxRow.incident_id)
        .subquery()
    )
    ready = (
        select(OutboxRow.id, OutboxRow.channel, OutboxRow.attempts)
        .join(firsts, and_(OutboxRow.channel == firsts.c.channel, OutboxRow.event_id == firsts.c.event_id))
        .where(OutboxRow.next_try_at <= now, *_of(deployment))
        .order_by(OutboxRow.next_try_at, OutboxRow.event_id)
    )
    chosen: dict[str, Any] = {}
    for row in conn.execute(ready):
        chosen.setdefault(row.channel, row)
    if not chosen:
        return []
    # The attempts are those of the first look: by the second one, another monitor may have begun.
    attempts = {row.id: row.attempts for row in chosen.values()}
    rows = conn.execute(select(OutboxRow.__table__).where(OutboxRow.id.in_(attempts)).order_by(OutboxRow.id))
    return [Due(row.id, row.channel, attempts[row.id], _notification(row)) for row in rows]


def claim(conn: Connection, turn: Due, *, until: datetime) -> bool:
    """Begin an attempt: nobody else does before `until`. False where another monitor was quicker."""
    return _changed(
        conn,
        turn.id,
        and_(IS_WAITING, OutboxRow.attempts == turn.attempts),
        attempts=turn.attempts + 1,
        next_try_at=until,
    )


def delivered(conn: Connection, row_id: int, *, at: datetime) -> None:
    """The receiver has it, whatever others think that tried the same."""
    _changed(conn, row_id, OutboxRow.delivered_at.is_(None), delivered_at=at, given_up_at=None, last_error=None)


def failed(
    conn: Connection,
    row_id: int,
    *,
    attempts: int,
    error: str,
    next_try_at: datetime | None = None,
    given_up_at: datetime | None = None,
) -> None:
    """Attempt number `attempts` has failed: the next one is then, or it was the last. Nothing if another has begun."""
    mine = and_(IS_WAITING, OutboxRow.attempts == attempts)
    times = {"given_up_at": given_up_at} if next_try_at is None else {"next_try_at": next_try_at}
    _changed(conn, row_id, mine, last_error=error[:_LONGEST_ERROR], **times)


def give_up_unknown(
    conn: Connection, channels: Sequence[str], *, before: datetime, at: datetime, deployment: str | None = None
) -> int:
    """Give up what has waited since `before` for channels that are none of these; return how many."""
    lost = select(OutboxRow.id).where(
        IS_WAITING, OutboxRow.channel.not_in(channels), OutboxRow.created_at < before, *_of(deployment)
    )
    said = "no channel of this name is in the settings"
    return conn.execute(
        update(OutboxRow).where(OutboxRow.id.in_(lost)).values(given_up_at=at, last_error=said)
    ).rowcount


def waiting(conn: Connection, deployment: str | None = None) -> dict[str, Waiting]:
    """How much waits, by channel."""
    rows = conn.execute(
        select(OutboxRow.channel, func.count().label("n"), func.min(OutboxRow.created_at).label("oldest"))
        .where(IS_WAITING, *_of(deployment))
        .group_by(OutboxRow.channel)
    )
    return {row.channel: Waiting(row.n, row.oldest) for row in rows}


def channel_states(conn: Connection) -> list[ChannelState]:
    """What has become of all notifications, by channel."""
    troubled = select(func.max(OutboxRow.id)).where(OutboxRow.last_error.is_not(None)).group_by(OutboxRow.channel)
    errors = conn.execute(select(OutboxRow.channel, OutboxRow.last_error).where(OutboxRow.id.in_(troubled)))
    last_error = {row.channel: row.last_error for row in errors}
    rows = conn.execute(
        select(
            OutboxRow.channel,
            func.count().filter(IS_WAITING),
            func.count(OutboxRow.delivered_at),
            func.count(OutboxRow.given_up_at),
            func.min(OutboxRow.created_at).filter(IS_WAITING),
            func.max(OutboxRow.delivered_at),
        )
        .group_by(OutboxRow.channel)
        .order_by(OutboxRow.channel)
    )
    return [ChannelState(*row, last_error.get(row.channel)) for row in rows]


def standing(
    conn: Connection,
    channel: str,
    *,
    ended_after: datetime | None,
    incident_id: int | None = None,
    deployment: str | None = None,
) -> list[Standing]:
    """The incidents that were told on a channel, or are just being told, and are open or ended after a time.

    One incident alone where it is named.
    """
    wanted: list[ColumnElement[bool]] = [OutboxRow.channel == channel, OutboxRow.attempts > 0, *_of(deployment)]
    if ended_after is not None:
        wanted.append(or_(IncidentRow.resolved_at.is_(None), IncidentRow.resolved_at >= ended_after))
    if incident_id is not None:
        wanted.append(OutboxRow.incident_id == incident_id)
    rows = conn.execute(
        select(OutboxRow.__table__, IncidentRow.onset, IncidentRow.handling, IncidentRow.resolved_at)
        .join(IncidentRow, IncidentRow.id == OutboxRow.incident_id)
        .where(*wanted)
        .order_by(OutboxRow.incident_id, OutboxRow.event_id)
    )
    return list(_standing(rows.all()))


def _standing(rows: Sequence[Any]) -> Iterator[Standing]:
    for incident_id, group in groupby(rows, key=lambda row: row.incident_id):
        told = list(group)
        newest = told[-1]
        yield Standing(
            incident_id, newest.onset, newest.handling, newest.resolved_at, tuple(_notification(row) for row in told)
        )


def _notification(row: Any) -> Notification:
    return Notification(row.event_id, row.incident_id, row.action, row.payload, row.created_at)


def _changed(conn: Connection, row_id: int, condition: ColumnElement[bool], **values: Any) -> bool:
    changed = conn.execute(update(OutboxRow).where(OutboxRow.id == row_id, condition).values(**values))
    return changed.rowcount == 1


def _of(deployment: str | None) -> list[ColumnElement[bool]]:
    """The condition that an incident is of this deployment; none where all are meant."""
    if deployment is None:
        return []
    theirs = (
        select(IncidentRow.id)
        .join(DeploymentRow, DeploymentRow.id == IncidentRow.deployment_id)
        .where(DeploymentRow.name == deployment)
    )
    return [OutboxRow.incident_id.in_(theirs)]
