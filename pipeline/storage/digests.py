"""Digests: what a day is told from, and that it is told."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from pipeline.alerts.incident import DIGEST
from pipeline.shift.folding import POOLED
from pipeline.storage.alert_schema import AlertingRow, IncidentEventRow, IncidentRow
from pipeline.storage.outbox import enqueue
from pipeline.storage.schema import TickRow

_MONITOR = "monitor"


def count_images(conn: Connection, deployment_id: int, since: datetime, until: datetime) -> tuple[int, int]:
    """Images of these minutes, event time, and how many of them are flagged, each by the reference that scored it."""
    row = conn.execute(
        select(func.sum(TickRow.n), func.sum(TickRow.flags)).where(
            TickRow.deployment_id == deployment_id,
            TickRow.minutes == 1,
            TickRow.segment_id == POOLED,
            TickRow.start >= since,
            TickRow.start < until,
        )
    ).one()
    return int(row[0] or 0), int(row[1] or 0)


def note_digest(conn: Connection, deployment_id: int, until: datetime) -> None:
    """Days up to this one need not be told any more. Claim the deployment's alerting first."""
    conn.execute(update(AlertingRow).where(AlertingRow.deployment_id == deployment_id).values(digest_at=until))


def begin_digest(conn: Connection, deployment_id: int, *, since: datetime, now: datetime) -> int:
    """Something to be told that is over from its beginning on. Its key."""
    values = {"handling": "resolved", "state": "ok", "peak": "ok", "provisional": False, "handled_by": _MONITOR}
    key: int = conn.execute(
        insert(IncidentRow)
        .values(deployment_id=deployment_id, kind=DIGEST, onset=since, opened_at=now, resolved_at=now, **values)
        .returning(IncidentRow.id)
    ).scalar_one()
    return key


def enqueue_digest(
    conn: Connection, key: int, payload: Mapping[str, Any], channels: Sequence[str], *, now: datetime
) -> None:
    """Have it told on these channels."""
    event: int = conn.execute(
        insert(IncidentEventRow)
        .values(incident_id=key, at=now, kind="note", who=_MONITOR, why=DIGEST, payload=payload)
        .returning(IncidentEventRow.id)
    ).scalar_one()
    enqueue(conn, event, key, "info", {**payload, "transition": event}, channels, now)
