"""Alert: transitions, health and time become incidents and what is told of them, each exactly once.

Read, decide, then claim and store in one transaction: incidents, history, what is to be told, and how far the
transitions are taken in. People's decisions go the same way, see `assembly.handling`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time
from typing import Any

from sqlalchemy import Connection, Engine

from pipeline.alerts.evidence import Evidence
from pipeline.alerts.health import Finding, findings
from pipeline.alerts.incident import Alert, Channel, Event, Incident, action_of, told_to
from pipeline.alerts.lifecycle import Casebook, Happened, Rules
from pipeline.alerts.snapshot import Disk, Snapshot
from pipeline.stages.composing import compose_plainly
from pipeline.storage.alert_evidence import evidence_after, health_streams, read_streams
from pipeline.storage.engine import reading
from pipeline.storage.incidents import (
    add_event,
    begin_alerting,
    claim_alerting,
    read_standing,
    recent_incidents,
    save_incidents,
)
from pipeline.storage.monitoring import Watched
from pipeline.storage.outbox import enqueue
from pipeline.storage.pipeline_health import read_snapshot, why_invalid

#: The answer that is told of an event; the incident as it is right after it.
Compose = Callable[[Connection, Watched, Incident, Event], dict[str, Any]]

_BATCH = 100  # transitions in one transaction


@dataclass(frozen=True, slots=True)
class Alerting:
    """What is told, to whom, and how."""

    rules: Rules
    channels: Sequence[Channel] = ()
    compose: Compose = compose_plainly
    disk: Callable[[], Disk | None] = lambda: None  # where the database lies
    pace: float = 1.0  # seconds of the clock that pass in one of the machine's
    headroom: float = 0.2  # see `alerts.snapshot`
    digest: time | None = None  # when each day is told, UTC


def take_in(
    engine: Engine, deployment: Watched, alerting: Alerting, *, now: datetime, limit: int = _BATCH
) -> list[Event] | None:
    """The oldest transitions that nobody has taken in; None: there is none.

    Raises Superseded where somebody else has decided meanwhile.
    """
    with reading(engine).connect() as conn:
        standing = read_standing(conn, deployment.id)
        if standing is not None:
            evidence = evidence_after(conn, deployment.id, standing.transition_id, limit=limit)
            if not evidence:
                return None
            before = _recent(conn, deployment, alerting.rules, min(seen.at for seen in evidence))
            invalid = why_invalid(conn, deployment, now=now)
    if standing is None:
        with engine.begin() as conn:
            begin_alerting(conn, deployment.id, now=now)
        return []
    book = Casebook(deployment.id, before.values(), alerting.rules)
    # Before what may follow from it: of that nobody is to be told.
    for finding in findings(Snapshot(now, mixed=invalid), ()):
        book.follow(_of_health(finding, deployment, now), now=now)
    for seen in evidence:
        book.follow(seen, now=now)
    newest = evidence[-1].transition_id
    assert newest is not None
    with engine.begin() as conn:
        claim_alerting(conn, standing, transition_id=newest, now=now)
        return store(conn, deployment, alerting, before, book.incidents, book.happened, now=now)


def look(engine: Engine, deployment: Watched, alerting: Alerting, *, now: datetime) -> list[Event]:
    """Is the pipeline itself well, and what has the time that passed done?

    Raises Superseded where somebody else has decided meanwhile.
    """
    with reading(engine).connect() as conn:
        standing = read_standing(conn, deployment.id)
        if standing is None:
            return []
        before = _recent(conn, deployment, alerting.rules, now)
        limits = {"pace": alerting.pace, "headroom": alerting.headroom}
        snapshot = read_snapshot(conn, deployment, alerting.disk(), **limits, now=now)
        standing_alerts = {kind: _open_alerts(before, kind) for kind in ("shift", "health")}
        streams = read_streams(conn, deployment, standing_alerts["shift"], now=now)
    book = Casebook(deployment.id, before.values(), alerting.rules)
    for finding in findings(snapshot, {alert.key for alert in standing_alerts["health"]}):
        book.follow(_of_health(finding, deployment, now), now=now)
    healths = health_streams(_open_alerts(book.incidents, "health"), now=now)
    book.look({**streams, **healths}, now=now)
    if not book.happened:
        return []
    with engine.begin() as conn:
        claim_alerting(conn, standing, transition_id=standing.transition_id, now=now)
        return store(conn, deployment, alerting, before, book.incidents, book.happened, now=now)


def store(
    conn: Connection,
    deployment: Watched,
    alerting: Alerting,
    before: Mapping[int, Incident],
    after: Mapping[int, Incident],
    happened: Sequence[Happened],
    *,
    now: datetime,
) -> list[Event]:
    """Incidents, their history, and one row for each channel that hears of an event; the events as stored."""
    stored = save_incidents(conn, before, after)
    events = []
    for one in happened:
        incident = stored(one.incident)
        event = replace(one.event, incident_id=incident.id)
        events.append(event)
        channels = told_to(event, incident, alerting.channels)
        payload = alerting.compose(conn, deployment, incident, event) if event.loud or channels else None
        key = add_event(conn, event, _alert_of(event, incident), payload)
        if payload is not None:
            enqueue(conn, key, incident.id, action_of(event), {**payload, "transition": key}, channels, now)
    return events


def _alert_of(event: Event, incident: Incident) -> int | None:
    """Of several with this key all but one had ended before."""
    same = [alert for alert in incident.alerts if alert.key == event.alert]
    return max(same, key=lambda alert: (alert.resolved_at is None, alert.updated_at)).id if same else None


def _recent(conn: Connection, deployment: Watched, rules: Rules, at: datetime) -> dict[int, Incident]:
    since = at - max(rules.reopen, rules.reopen_health)
    return {incident.id: incident for incident in recent_incidents(conn, deployment.id, since=since)}


def _open_alerts(incidents: Mapping[int, Incident], kind: str) -> list[Alert]:
    return [alert for incident in incidents.values() if incident.kind == kind for alert in incident.open_alerts]


def _of_health(finding: Finding, deployment: Watched, now: datetime) -> Evidence:
    return Evidence(
        kind="health",
        signal=finding.rule,
        segment="",
        reference_id=deployment.reference_id,
        state=finding.state,
        at=now,
        newest=now,
        onset=finding.since,
        detail=finding.detail,
    )
