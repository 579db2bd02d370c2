"""Deployments and their segments."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from pipeline.storage.schema import DeploymentRow, SegmentRow

#: Where images go whose segment came after `max_segments` others.
OVERFLOW_SEGMENT = "other"


def ensure_deployment(conn: Connection, name: str, *, model_id: str, reference_id: int, now: datetime) -> int:
    """The key of a deployment, made or brought to the given model and reference."""
    found = conn.execute(
        update(DeploymentRow)
        .where(DeploymentRow.name == name)
        .values(model_id=model_id, reference_id=reference_id, updated_at=now)
        .returning(DeploymentRow.id)
    ).scalar_one_or_none()
    if found is not None:
        return found
    return conn.execute(
        insert(DeploymentRow)
        .values(name=name, model_id=model_id, reference_id=reference_id, created_at=now, updated_at=now)
        .returning(DeploymentRow.id)
    ).scalar_one()


def ensure_segments(conn: Connection, deployment_id: int, names: Iterable[str], *, limit: int) -> dict[str, int]:
    """Keys of the named segments, making those that are new.

    A deployment has at most `limit` segments: a producer that writes a new name into every record
    must not grow the tables without bound. Later names share the segment `other`.
    """
    known = {
        row.name: row.id
        for row in conn.execute(select(SegmentRow.name, SegmentRow.id).where(SegmentRow.deployment_id == deployment_id))
    }
    keys: dict[str, int] = {}
    for name in names:
        room = name in known or len(known) < limit
        chosen = name if room else OVERFLOW_SEGMENT
        if chosen not in known:
            known[chosen] = conn.execute(
                insert(SegmentRow).values(deployment_id=deployment_id, name=chosen).returning(SegmentRow.id)
            ).scalar_one()
        keys[name] = known[chosen]
    return keys
