"""How incidents and alerts follow from what was seen. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pipeline.alerts.evidence import Evidence, Stream
from pipeline.alerts.incident import Alert, Incident, Key, rank, worse


def new_incident(key: int, deployment_id: int, seen: Evidence) -> Incident:
    """An incident without its first alert."""
    return Incident(
        id=key,
        deployment_id=deployment_id,
        kind=seen.kind,
        handling="open",
        handled_until=None,
        handled_by=None,
        exception=None,
        onset=seen.onset,
        state=seen.state,
        peak=seen.state,
        provisional=seen.provisional,
        opened_at=seen.at,
        resolved_at=None,
        alerts=(),
    )


def new_alert(key: int, seen: Evidence) -> Alert:
    """What this evidence raises."""
    return Alert(
        id=key,
        signal=seen.signal,
        segment=seen.segment,
        reference_id=seen.reference_id,
        state=seen.state,
        peak=seen.state,
        provisional=seen.provisional,
        onset=seen.onset,
        share=seen.share,
        low=seen.low,
        high=seen.high,
        k=seen.k,
        n=seen.n,
        detail=seen.detail,
        raised_at=seen.at,
        updated_at=seen.at,
        resolved_at=None,
    )


def top_share(incident: Incident, streams: Mapping[Key, Stream]) -> float | None:
    """The largest share of flagged images of the open alerts, as it is now."""
    shares = [streams[alert.key].share for alert in incident.open_alerts if alert.key in streams]
    return max((share for share in shares if share is not None), default=None)


def reopened(incident: Incident, at: datetime) -> Incident:
    """Open again, and silent for as long as it had been meant to be."""
    lasting = incident.handled_until is not None and incident.handled_until > at
    opened = replace(incident, handling="silenced" if lasting else "open", resolved_at=None, told_at=None)
    return opened if lasting else unhandled(opened)


def unhandled(incident: Incident) -> Incident:
    """Open, as nobody had decided anything."""
    return replace(incident, handling="open", handled_until=None, handled_by=None, exception=None, notice_at=None)


def brought_back(alert: Alert, seen: Evidence) -> Alert:
    """An alert that had ended, open again."""
    return replace(updated(alert, seen), onset=seen.onset, raised_at=seen.at, resolved_at=None)


def updated(alert: Alert, seen: Evidence) -> Alert:
    """What its newest evidence says of an alert."""
    return replace(
        alert,
        reference_id=seen.reference_id,
        state=seen.state,
        peak=worse(alert.peak, seen.state),
        provisional=seen.provisional,
        share=seen.share,
        low=seen.low,
        high=seen.high,
        k=seen.k,
        n=seen.n,
        detail=seen.detail,
        updated_at=seen.at,
    )


def put(incident: Incident, alert: Alert) -> Incident:
    """The incident with this alert in it, and what follows from that."""
    known = alert.id in {other.id for other in incident.alerts}
    alerts = tuple(alert if other.id == alert.id else other for other in incident.alerts)
    changed = replace(incident, alerts=alerts if known else (*alerts, alert))
    standing = changed.open_alerts
    state = max((one.state for one in standing), key=rank, default="ok")
    return replace(
        changed,
        onset=min(incident.onset, alert.onset),
        state=state,
        peak=worse(incident.peak, state),
        provisional=all(one.provisional for one in standing) if standing else incident.provisional,
    )


def told(incident: Incident, state: str, at: datetime) -> Incident:
    """A state has been told."""
    return replace(incident, told=worse(incident.told or "ok", state), told_at=at)
