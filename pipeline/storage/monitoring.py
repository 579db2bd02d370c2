"""How far the monitor is. Whoever writes ticks or verdicts of a deployment moves its revision in the same transaction.

Read, compute, then claim: the compare-and-set fails where another monitor has written since the read, and
nothing of what was computed from it is stored. So two leaders at once are slow, never wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from pipeline.errors import UsageError
from pipeline.shift.folding import StreamClock
from pipeline.storage.conflicts import insert_or
from pipeline.storage.schema import DeploymentRow, MonitorRow, ReferenceRow, StreamRow, TickLevelRow


class Superseded(Exception):
    """Another monitor was quicker: roll back, and read anew."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A deployment that is to be monitored."""

    id: int
    name: str
    reference_id: int  # the one that scores now


@dataclass(frozen=True, slots=True)
class Position:
    """How far the monitor is with one deployment, as of `revision`."""

    deployment_id: int
    revision: int
    evaluated_until: datetime | None
    watermark: datetime | None
    fed_at: datetime | None
    overflow_parts: int


def watched_deployments(conn: Connection, name: str | None) -> list[Watched]:
    """The named deployment, or all of them, by key."""
    statement = select(DeploymentRow.id, DeploymentRow.name, DeploymentRow.reference_id).order_by(DeploymentRow.id)
    if name is not None:
        statement = statement.where(DeploymentRow.name == name)
    return [Watched(*row) for row in conn.execute(statement)]


def one_deployment(conn: Connection, name: str | None) -> Watched:
    """The named deployment, or the only one. Raises UsageError where that is nobody, or not clear."""
    known = watched_deployments(conn, None)
    meant = [deployment for deployment in known if name in (None, deployment.name)]
    if len(meant) == 1:
        return meant[0]
    names = ", ".join(deployment.name for deployment in known)
    if name is None and known:
        raise UsageError(f"there are several deployments: {names}; name one with --deployment")
    if name is None:
        raise UsageError("nothing has been scored yet, so there is no deployment; start `oodwatch worker`")
    raise UsageError(f"there is no deployment {name!r}; known: {names or 'none, a worker makes it'}")


def reference_names(conn: Connection) -> dict[int, str]:
    """Names by key."""
    return {row.id: row.name for row in conn.execute(select(ReferenceRow.id, ReferenceRow.name))}


def begin_monitoring(conn: Connection, deployment_id: int, *, now: datetime) -> None:
    """Make the position of a deployment that no monitor has seen yet."""
    counters = ("folded_parts", "late_parts", "late_images", "too_late_images", "overflow_parts")
    conn.execute(
        insert_or(conn, MonitorRow)
        .values(deployment_id=deployment_id, revision=0, updated_at=now, **dict.fromkeys(counters, 0))
        .on_conflict_do_nothing()
    )


def read_position(conn: Connection, deployment_id: int) -> Position | None:
    """To be read before anything that is computed from; None: `begin_monitoring`."""
    row = conn.execute(
        select(
            MonitorRow.deployment_id,
            MonitorRow.revision,
            MonitorRow.evaluated_until,
            MonitorRow.watermark,
            MonitorRow.fed_at,
            MonitorRow.overflow_parts,
        ).where(MonitorRow.deployment_id == deployment_id)
    ).one_or_none()
    return None if row is None else Position(*row)


def claim(
    conn: Connection, position: Position, *, now: datetime, added: Mapping[str, int] | None = None, **changed: Any
) -> None:
    """Compare-and-set of the revision, first in a transaction. `added` goes to counters, `changed` replaces columns.

    Raises Superseded where another monitor has written since `position` was read.
    """
    more = {name: getattr(MonitorRow, name) + count for name, count in (added or {}).items()}
    claimed = conn.execute(
        update(MonitorRow)
        .where(MonitorRow.deployment_id == position.deployment_id, MonitorRow.revision == position.revision)
        .values(revision=position.revision + 1, updated_at=now, **more, **changed)
    )
    if claimed.rowcount == 0:
        raise Superseded


def made_levels(conn: Connection, deployment_id: int) -> dict[int, datetime]:
    """How far each coarser level is made, by minutes."""
    rows = conn.execute(
        select(TickLevelRow.minutes, TickLevelRow.made_until).where(TickLevelRow.deployment_id == deployment_id)
    )
    return {row.minutes: row.made_until for row in rows}


def note_made(conn: Connection, deployment_id: int, minutes: int, until: datetime) -> None:
    """A level is made up to here."""
    conn.execute(
        insert_or(conn, TickLevelRow)
        .values(deployment_id=deployment_id, minutes=minutes, made_until=until)
        .on_conflict_do_update(
            index_elements=[TickLevelRow.deployment_id, TickLevelRow.minutes], set_={"made_until": until}
        )
    )


def stream_clocks(conn: Connection, deployment_id: int) -> list[StreamClock]:
    """How far each partition has come."""
    rows = conn.execute(
        select(StreamRow.newest_event_time, StreamRow.updated_at).where(StreamRow.deployment_id == deployment_id)
    )
    return [StreamClock(*row) for row in rows]
