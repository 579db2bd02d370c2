"""What an incident itself knows, as the payload of a message: version 1 of the webhook, without an answer."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from pipeline.alerts.answer import leading_alert
from pipeline.alerts.incident import Event, Incident, severity
from pipeline.storage.monitoring import Watched


def compose_plainly(_conn: Connection, deployment: Watched, incident: Incident, event: Event) -> dict[str, Any]:
    """The payload of an event; the incident as it is right after it."""
    alert = leading_alert(incident, event)
    assert alert is not None, "an incident has alerts"
    fingerprint = f"oodwatch/{deployment.name}/{incident.id}"
    return {
        "version": 1,
        "transition": None,
        "incident": {
            "id": incident.id,
            "kind": incident.kind,
            "state": incident.state,
            "peak": incident.peak,
            "handling": incident.handling,
            "handled_by": incident.handled_by,
            "handled_until": _iso(incident.handled_until),
            "provisional": incident.provisional,
            "opened_at": _iso(incident.opened_at),
            "resolved_at": _iso(incident.resolved_at),
        },
        "alert": f"oodwatch/{deployment.name}/{alert.signal}/{alert.segment}",
        "fingerprint": fingerprint,
        "at": _iso(event.at),
        "event": event.kind,
        "from": event.from_state,
        "to": event.to_state,
        "who": event.who,
        "why": event.why,
        "severity": severity(incident.state),
        "deployment": deployment.name,
        "reference": alert.reference_id,
        "signal": alert.signal,
        "segment": alert.segment,
        "window": {"from": _iso(alert.onset), "to": _iso(alert.updated_at)},
        "value": alert.share,
        "interval": [alert.low, alert.high],
        "n": alert.n,
        "onset": _iso(alert.onset),
        "detail": alert.detail,
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
