"""Incidents as they are asked about: read again, with their alerts and what happened last."""

from typing import NamedTuple

from sqlalchemy import Connection, select

from pipeline.alerts.incident import UNLISTED, Event, Incident
from pipeline.errors import UsageError
from pipeline.storage.alert_schema import IncidentEventRow, IncidentRow
from pipeline.storage.incidents import incident_by_key
from pipeline.storage.monitoring import Watched
from pipeline.storage.schema import DeploymentRow


class Told(NamedTuple):
    """One incident and its newest event."""

    deployment: Watched
    incident: Incident
    event: Event | None
    event_id: int | None


def read_incident(conn: Connection, incident_id: int | None) -> Told:
    """The named incident, else the newest that is open, else the newest.

    Raises UsageError where there is none.
    """
    real = select(IncidentRow.id).where(IncidentRow.kind.not_in(UNLISTED))
    keys = real.order_by(IncidentRow.resolved_at.is_not(None), IncidentRow.id.desc()).limit(1)
    key = conn.scalar(keys) if incident_id is None else incident_id
    incident = None if key is None else incident_by_key(conn, key)
    if incident is None:
        known = conn.scalars(real.order_by(IncidentRow.id.desc()).limit(5)).all()
        asked = "there is no incident" if incident_id is None else f"no incident has number {incident_id}"
        raise UsageError(f"{asked}; the newest: {', '.join(map(str, known)) or 'none yet'}")
    return Told(_deployment(conn, incident.deployment_id), incident, *_newest_event(conn, incident))


def _deployment(conn: Connection, key: int) -> Watched:
    columns = select(DeploymentRow.id, DeploymentRow.name, DeploymentRow.reference_id)
    return Watched(*conn.execute(columns.where(DeploymentRow.id == key)).one())


def _newest_event(conn: Connection, incident: Incident) -> tuple[Event | None, int | None]:
    row = conn.execute(
        select(
            IncidentEventRow.id,
            IncidentEventRow.alert_id,
            IncidentEventRow.transition_id,
            IncidentEventRow.at,
            IncidentEventRow.kind,
            IncidentEventRow.from_state,
            IncidentEventRow.to_state,
            IncidentEventRow.who,
            IncidentEventRow.why,
        )
        .where(IncidentEventRow.incident_id == incident.id)
        .order_by(IncidentEventRow.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None, None
    of = next((alert.key for alert in incident.alerts if alert.id == row.alert_id), None)
    said = (row.at, row.kind, row.from_state, row.to_state, row.who, row.why)
    return Event(incident.id, of, row.transition_id, *said), row.id
