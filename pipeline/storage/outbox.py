"""What is to be told, to whom: written with the event itself, delivered later."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert

from pipeline.alerts.incident import Action
from pipeline.storage.alert_schema import OutboxRow


def enqueue(
    conn: Connection,
    event_id: int,
    incident_id: int,
    action: Action,
    payload: dict[str, Any],
    channels: Sequence[str],
    now: datetime,
) -> None:
    """One row for each channel."""
    if channels:
        row = {"event_id": event_id, "incident_id": incident_id, "action": action, "payload": payload, "attempts": 0}
        times = {"created_at": now, "next_try_at": now}
        conn.execute(insert(OutboxRow), [{**row, **times, "channel": channel} for channel in channels])
