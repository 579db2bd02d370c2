"""Incidents as pages show them: read only."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from pipeline.alerts.incident import UNLISTED
from pipeline.storage.alert_schema import AlertRow, IncidentRow, MarkRow, OutboxRow
from pipeline.storage.schema import DeploymentRow, TransitionRow, VerdictRow


class AlertLine(NamedTuple):
    """One alert of an incident."""

    signal: str
    segment: str  # empty: all traffic
    state: str
    peak: str
    provisional: bool
    onset: datetime
    share: float | None
    low: float | None
    high: float | None
    k: float | None
    n: float | None
    detail: str
    raised_at: datetime
    resolved_at: datetime | None


class IncidentLine(NamedTuple):
    """One incident with its alerts."""

    id: int
    kind: str
    handling: str
    handled_until: datetime | None
    handled_by: str | None
    onset: datetime
    state: str
    peak: str
    provisional: bool
    opened_at: datetime
    resolved_at: datetime | None
    alerts: tuple[AlertLine, ...]


class DeliveryLine(NamedTuple):
    """One telling of an event on one channel."""

    event_id: int
    channel: str
    action: str
    created_at: datetime
    attempts: int
    delivered_at: datetime | None
    given_up_at: datetime | None
    last_error: str | None


class MarkLine(NamedTuple):
    """Something that people did."""

    at: datetime
    text: str
    who: str


class VerdictLine(NamedTuple):
    """The newest verdict on one stream of evidence."""

    stream: str
    state: str
    log_evidence: float
    onset: datetime | None
    share: float | None
    low: float | None
    high: float | None
    provisional: bool
    tick: datetime


class TransitionLine(NamedTuple):
    """A change of state of one stream of evidence."""

    stream: str
    tick: datetime
    from_state: str
    state: str
    log_evidence: float


def read_incidents(conn: Connection, deployment_id: int, *, limit: int) -> list[IncidentLine]:
    """The newest incidents: open ones first, then by when they were opened."""
    mine = and_(IncidentRow.deployment_id == deployment_id, IncidentRow.kind.not_in(UNLISTED))
    ordered = IncidentRow.resolved_at.is_not(None), IncidentRow.opened_at.desc()
    keys = conn.scalars(select(IncidentRow.id).where(mine).order_by(*ordered).limit(limit)).all()
    found = _read(conn, IncidentRow.id.in_(keys))
    return sorted(found, key=lambda one: keys.index(one.id))


def read_incident(conn: Connection, deployment_id: int, key: int) -> IncidentLine | None:
    """One incident; None where this deployment has none of this key."""
    return next(iter(_read(conn, IncidentRow.id == key, IncidentRow.deployment_id == deployment_id)), None)


def deployment_of_incident(conn: Connection, key: int) -> str | None:
    """The name of the deployment that an incident belongs to; None: there is no such incident."""
    statement = select(DeploymentRow.name).join(IncidentRow, IncidentRow.deployment_id == DeploymentRow.id)
    return conn.scalar(statement.where(IncidentRow.id == key))


def read_deliveries(conn: Connection, incident_id: int) -> list[DeliveryLine]:
    """What was told of an incident, oldest first."""
    columns = [getattr(OutboxRow, name) for name in DeliveryLine._fields]
    statement = select(*columns).where(OutboxRow.incident_id == incident_id).order_by(OutboxRow.id)
    return [DeliveryLine._make(row) for row in conn.execute(statement)]


def count_pages(conn: Connection, deployment_id: int, *, since: datetime) -> tuple[int, datetime | None]:
    """How many shifts were opened since then that were not provisional, and when the last one ever was."""
    statement = select(func.count().filter(IncidentRow.opened_at >= since), func.max(IncidentRow.opened_at)).where(
        IncidentRow.deployment_id == deployment_id, IncidentRow.kind == "shift", IncidentRow.provisional.in_([False])
    )
    row = conn.execute(statement).one()
    return int(row[0]), row[1]


def read_marks(conn: Connection, deployment_id: int, start: datetime, end: datetime) -> list[MarkLine]:
    """What people did in [start, end), here or everywhere."""
    statement = (
        select(MarkRow.at, MarkRow.text, MarkRow.who)
        .where(
            or_(MarkRow.deployment_id == deployment_id, MarkRow.deployment_id.is_(None)),
            MarkRow.at >= start,
            MarkRow.at < end,
        )
        .order_by(MarkRow.at)
    )
    return [MarkLine._make(row) for row in conn.execute(statement)]


def read_verdicts(conn: Connection, deployment_id: int, reference_id: int) -> list[VerdictLine]:
    """The newest verdict on every stream of a reference, by name."""
    columns = [getattr(VerdictRow, name) for name in VerdictLine._fields]
    statement = (
        select(*columns)
        .where(VerdictRow.deployment_id == deployment_id, VerdictRow.reference_id == reference_id)
        .order_by(VerdictRow.stream)
    )
    return [VerdictLine._make(row) for row in conn.execute(statement)]


def read_transitions(conn: Connection, deployment_id: int, start: datetime, end: datetime) -> list[TransitionLine]:
    """Changes of state in ticks with start <= tick < end, oldest first."""
    columns = [getattr(TransitionRow, name) for name in TransitionLine._fields]
    statement = (
        select(*columns)
        .where(TransitionRow.deployment_id == deployment_id, TransitionRow.tick >= start, TransitionRow.tick < end)
        .order_by(TransitionRow.tick, TransitionRow.id)
    )
    return [TransitionLine._make(row) for row in conn.execute(statement)]


def _read(conn: Connection, *which: ColumnElement[bool]) -> list[IncidentLine]:
    chosen = select(IncidentRow.id).where(*which)
    columns = [getattr(AlertRow, name) for name in AlertLine._fields]
    rows = select(AlertRow.incident_id, *columns).where(AlertRow.incident_id.in_(chosen)).order_by(AlertRow.id)
    alerts: dict[int, list[AlertLine]] = {}
    for incident_id, *values in conn.execute(rows):
        alerts.setdefault(incident_id, []).append(AlertLine._make(values))
    names = IncidentLine._fields[:-1]
    incidents = select(*(getattr(IncidentRow, name) for name in names)).where(*which).order_by(IncidentRow.id)
    return [IncidentLine._make((*row, tuple(alerts.get(row.id, ())))) for row in conn.execute(incidents)]
