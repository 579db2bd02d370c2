"""Deployments and their segments."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select, update

from pipeline.errors import UsageError
from pipeline.storage.conflicts import insert_or
from pipeline.storage.schema import DeploymentRow, SegmentRow

#: Where images go whose segment came after `max_segments` others.
OVERFLOW_SEGMENT = "other"

_SEGMENTS = select(SegmentRow.name, SegmentRow.id).where(SegmentRow.deployment_id == bindparam("deployment"))


def ensure_deployment(conn: Connection, name: str, *, model_id: str, reference_id: int, now: datetime) -> int:
    """The key of a deployment, made or brought to the given model and reference."""
    changing = {"model_id": model_id, "reference_id": reference_id, "updated_at": now}
    return conn.execute(
        insert_or(conn, DeploymentRow)
        .values(name=name, created_at=now, **changing)
        .on_conflict_do_update(index_elements=[DeploymentRow.name], set_=changing)
        .returning(DeploymentRow.id)
    ).scalar_one()


def serve(conn: Connection, deployment_id: int, *, model_id: str, reference_id: int, now: datetime) -> None:
    """From now on this model and reference score in the deployment."""
    conn.execute(
        update(DeploymentRow)
        .where(DeploymentRow.id == deployment_id)
        .values(model_id=model_id, reference_id=reference_id, updated_at=now)
    )


def deployment_key(conn: Connection, name: str) -> int | None:
    """The key of a deployment; None where no worker has made it yet."""
    return conn.scalar(select(DeploymentRow.id).where(DeploymentRow.name == name))


def check_deployment(conn: Connection, name: str | None) -> None:
    """Raises UsageError for a name that is none of several known ones; where there is none yet, all are right."""
    known = conn.scalars(select(DeploymentRow.name).order_by(DeploymentRow.name)).all()
    if name is not None and known and name not in known:
        raise UsageError(f"no deployment is named {name!r}; known: {', '.join(known)}")


def ensure_segments(conn: Connection, deployment_id: int, names: Iterable[str], *, limit: int) -> dict[str, int]:
    """Keys of the named segments, making those that are new.

    A deployment has at most `limit` segments and `other`: a producer that writes a new name into
    every record must not grow the tables without bound. Later names share `other`. Workers that meet
    new names at once wait for one another, so that they count together.
    """
    wanted = list(names)
    known = _known(conn, deployment_id)
    room = len(known) < limit or OVERFLOW_SEGMENT not in known
    if room and not known.keys() >= set(wanted):
        conn.execute(select(DeploymentRow.id).where(DeploymentRow.id == deployment_id).with_for_update(key_share=True))
        known = _known(conn, deployment_id)
    keys: dict[str, int] = {}
    for name in wanted:
        chosen = name if name in known or len(known) < limit else OVERFLOW_SEGMENT
        if chosen not in known:
            known[chosen] = conn.execute(
                insert(SegmentRow).values(deployment_id=deployment_id, name=chosen).returning(SegmentRow.id)
            ).scalar_one()
        keys[name] = known[chosen]
    return keys


def _known(conn: Connection, deployment_id: int) -> dict[str, int]:
    return {row.name: row.id for row in conn.execute(_SEGMENTS, {"deployment": deployment_id})}
