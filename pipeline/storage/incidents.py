"""Incidents, their alerts and their history. Whoever writes them moves the deployment's `alerting` revision first.

Read, decide, then claim: the compare-and-set fails where a monitor or a person has decided since the read, and
nothing of what was decided from it is stored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Text, cast, func, insert, null, or_, select, update

from pipeline.alerts.incident import UNLISTED, Alert, Event, Incident
from pipeline.storage.alert_schema import AlertingRow, AlertRow, IncidentEventRow, IncidentRow
from pipeline.storage.conflicts import insert_or
from pipeline.storage.monitoring import Superseded

_ALERT_FIELDS = [field.name for field in fields(Alert)]
_INCIDENT_FIELDS = [field.name for field in fields(Incident) if field.name != "alerts"]

Row = TypeVar("Row", Incident, Alert)


@dataclass(frozen=True, slots=True)
class Standing:
    """Up to which transition the alerts of a deployment follow, as of `revision`."""

    deployment_id: int
    revision: int
    transition_id: int
    digest_at: datetime | None  # when the newest digest that was told was due


class EventLine(NamedTuple):
    """One line of an incident's history. The payload, the answer as it was told, is read only where it is asked for."""

    id: int
    incident_id: int
    at: datetime
    kind: str
    signal: str | None
    segment: str | None
    from_state: str | None
    to_state: str | None
    who: str
    why: str
    payload: dict[str, Any] | None


def begin_alerting(conn: Connection, deployment_id: int, *, now: datetime) -> None:
    """Make the position of a deployment that has no alerts yet."""
    row = {"deployment_id": deployment_id, "revision": 0, "transition_id": 0, "updated_at": now}
    conn.execute(insert_or(conn, AlertingRow).values(**row).on_conflict_do_nothing())


def read_standing(conn: Connection, deployment_id: int) -> Standing | None:
    """To be read before anything that is decided from; None: `begin_alerting`."""
    columns = [getattr(AlertingRow, field.name) for field in fields(Standing)]
    row = conn.execute(select(*columns).where(AlertingRow.deployment_id == deployment_id)).one_or_none()
    return None if row is None else Standing(*row)


def claim_alerting(conn: Connection, standing: Standing, *, transition_id: int, now: datetime) -> None:
    """Compare-and-set of the revision, first in a transaction.

    Raises Superseded where somebody else has decided since `standing` was read.
    """
    claimed = conn.execute(
        update(AlertingRow)
        .where(AlertingRow.deployment_id == standing.deployment_id, AlertingRow.revision == standing.revision)
        .values(revision=standing.revision + 1, transition_id=transition_id, updated_at=now)
    )
    if claimed.rowcount == 0:
        raise Superseded


def may_decide(conn: Connection) -> bool:
    """Whether this login may store decisions; on PostgreSQL a reader may not."""
    if conn.dialect.name != "postgresql":
        return True
    return bool(conn.scalar(select(func.has_table_privilege(IncidentEventRow.__tablename__, "INSERT"))))


def recent_incidents(conn: Connection, deployment_id: int, *, since: datetime) -> list[Incident]:
    """Those that are open, or ended at `since` or later, oldest first."""
    recent = or_(IncidentRow.resolved_at.is_(None), IncidentRow.resolved_at >= since)
    return _incidents(conn, IncidentRow.deployment_id == deployment_id, IncidentRow.kind.not_in(UNLISTED), recent)


def incident_by_key(conn: Connection, key: int) -> Incident | None:
    """One incident."""
    return next(iter(_incidents(conn, IncidentRow.id == key)), None)


def all_incidents(conn: Connection, deployment_id: int, *, ended: bool = True) -> list[Incident]:
    """Every incident of a deployment, or every one that is open, oldest first."""
    return _incidents(conn, *_listed(deployment_id, ended=ended))


def histories(conn: Connection, deployment_id: int, *, ended: bool = True) -> dict[int, list[EventLine]]:
    """What happened to every incident of a deployment, or to every one that is open, in order."""
    found: dict[int, list[EventLine]] = {}
    for line in history(conn, select(IncidentRow.id).where(*_listed(deployment_id, ended=ended))):
        found.setdefault(line.incident_id, []).append(line)
    return found


def last_told(conn: Connection, deployment_id: int) -> dict[int, dict[str, Any]]:
    """The last answer that was told of each incident that is over and of which anything was."""
    over = select(IncidentRow.id).where(*_listed(deployment_id, ended=True), IncidentRow.resolved_at.is_not(None))
    event = IncidentEventRow
    answered = cast(event.payload, Text) != "null"
    told = select(func.max(event.id)).where(event.incident_id.in_(over), answered)
    rows = conn.execute(select(event.incident_id, event.payload).where(event.id.in_(told.group_by(event.incident_id))))
    return {row.incident_id: row.payload for row in rows}


def history(conn: Connection, incident_ids: Sequence[int] | Select[int], *, payloads: bool = False) -> list[EventLine]:
    """What happened to these incidents, in order; with the answers that were told, where these are asked for."""
    event, alert = IncidentEventRow, AlertRow
    statement = (
        select(
            event.id,
            event.incident_id,
            event.at,
            event.kind,
            alert.signal,
            alert.segment,
            event.from_state,
            event.to_state,
            event.who,
            event.why,
            event.payload if payloads else null(),
        )
        .join(alert, alert.id == event.alert_id, isouter=True)
        .where(event.incident_id.in_(incident_ids))
        .order_by(event.id)
    )
    return [EventLine._make(row) for row in conn.execute(statement)]


def save_incidents(
    conn: Connection, before: Mapping[int, Incident], after: Mapping[int, Incident]
) -> Callable[[Incident], Incident]:
    """Write what has changed; what gives an incident, and its alerts, the keys that they are stored under."""
    keys = _write(conn, IncidentRow, _INCIDENT_FIELDS, before, after, lambda incident: {})
    old, new = ({one.id: one for each in some.values() for one in each.alerts} for some in (before, after))
    of = {
        alert.id: {"incident_id": keys.get(incident.id, incident.id), "deployment_id": incident.deployment_id}
        for incident in after.values()
        for alert in incident.alerts
    }
    alert_keys = _write(conn, AlertRow, _ALERT_FIELDS, old, new, lambda alert: of[alert.id])

    def stored(incident: Incident) -> Incident:
        alerts = tuple(replace(alert, id=alert_keys.get(alert.id, alert.id)) for alert in incident.alerts)
        return replace(incident, id=keys.get(incident.id, incident.id), alerts=alerts)

    return stored


def add_event(conn: Connection, event: Event, alert_id: int | None, payload: dict[str, Any] | None) -> int:
    """Append to an incident's history, with what is told of it; the row's key."""
    names = ("incident_id", "transition_id", "at", "kind", "from_state", "to_state", "who", "why")
    values = {name: getattr(event, name) for name in names}
    return _insert(conn, IncidentEventRow, {**values, "alert_id": alert_id, "payload": payload})


def _listed(deployment_id: int, *, ended: bool) -> list[ColumnElement[bool]]:
    which = [IncidentRow.deployment_id == deployment_id, IncidentRow.kind.not_in(UNLISTED)]
    return which if ended else [*which, IncidentRow.resolved_at.is_(None)]


def _incidents(conn: Connection, *which: ColumnElement[bool]) -> list[Incident]:
    chosen = select(IncidentRow.id).where(*which)
    alerts: dict[int, list[Alert]] = {}
    columns = [getattr(AlertRow, name) for name in _ALERT_FIELDS]
    rows = select(AlertRow.incident_id, *columns).where(AlertRow.incident_id.in_(chosen)).order_by(AlertRow.id)
    for incident_id, *values in conn.execute(rows):
        alerts.setdefault(incident_id, []).append(Alert(*values))
    incidents = select(*(getattr(IncidentRow, name) for name in _INCIDENT_FIELDS)).where(*which)
    return [
        Incident(**row._mapping, alerts=tuple(alerts.get(row.id, ())))
        for row in conn.execute(incidents.order_by(IncidentRow.id))
    ]


def _write(
    conn: Connection,
    table: Any,
    names: Sequence[str],
    old: Mapping[int, Row],
    new: Mapping[int, Row],
    more: Callable[[Row], Mapping[str, Any]],
) -> dict[int, int]:
    """Insert rows without a key, update those that have changed; the new keys.

    What ends is written before what begins, and that before what is open again: an index lets nothing be open twice.
    """
    keys: dict[int, int] = {}
    for row in sorted((row for row in new.values() if old.get(row.id) != row), key=_order):
        values = {name: getattr(row, name) for name in names if name != "id"}
        if row.id < 0:
            keys[row.id] = _insert(conn, table, {**more(row), **values})
            continue
        # Only what differs: an operator may change how an incident is handled, and nothing else of it.
        changed = {name: value for name, value in values.items() if value != getattr(old[row.id], name)}
        if changed:
            conn.execute(update(table).where(table.id == row.id).values(**changed))
    return keys


def _order(row: Incident | Alert) -> tuple[int, int]:
    return (1 if row.id < 0 else 2 if row.resolved_at is None else 0), abs(row.id)


def _insert(conn: Connection, table: Any, values: Mapping[str, Any]) -> int:
    key: int = conn.execute(insert(table).values(**values).returning(table.id)).scalar_one()
    return key
