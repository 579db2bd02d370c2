"""Settings and a person's decision → a changed incident; what is stored → what a person is shown."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from pipeline.alerts.acts import Act, handle
from pipeline.alerts.incident import Channel, Event, Incident
from pipeline.alerts.lifecycle import Happened, Rules
from pipeline.alerts.precision import Raised, Verdict, counts
from pipeline.alerts.snapshot import Disk
from pipeline.assembly.answering import composer_of
from pipeline.assembly.parts import existing_database
from pipeline.errors import EnvironmentFault, UsageError
from pipeline.settings import Settings
from pipeline.stages.alerting import Alerting, store
from pipeline.storage.alert_evidence import read_streams
from pipeline.storage.engine import reading, shown, sqlite_file
from pipeline.storage.incidents import (
    EventLine,
    Standing,
    all_incidents,
    claim_alerting,
    histories,
    history,
    incident_by_key,
    last_told,
    may_decide,
    read_standing,
)
from pipeline.storage.monitoring import Superseded, Watched, watched_deployments
from pipeline.storage.reviews import flagged_judged
from pipeline.storage.roles import OPERATOR

_ATTEMPTS = 20
_ACKNOWLEDGING = ("pagerduty", "webhook", "stdout")  # kinds of channels that can take: somebody takes care


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person's decision came to."""

    deployment: str
    before: Incident  # as the decision found it
    after: Incident
    changed: bool
    meanwhile: Sequence[EventLine]  # what others did to it since the command began


@dataclass(frozen=True, slots=True)
class Listed:
    """An incident and its history."""

    deployment: Watched
    incident: Incident
    history: Sequence[EventLine]
    payload: dict[str, Any] | None  # as its newest event would be told; of one that is over as it was told
    judged: Mapping[Verdict, int]  # what people said of its images


def alerting_of(settings: Settings) -> Alerting:
    """What is told, as the settings say."""
    alerts = settings.alerts
    rules = Rules(
        page_provisional=alerts.page_provisional,
        repeat=timedelta(hours=alerts.repeat_hours),
        max_page_age=timedelta(hours=alerts.max_page_age_hours),
        reopen=timedelta(hours=alerts.reopen_hours),
    )
    channels = [
        Channel(
            channel.name,
            channel.min_state,
            acknowledges=channel.kind in _ACKNOWLEDGING,
            informed=channel.events == "all",
            digest=channel.digest,
        )
        for channel in settings.channels
    ]
    return Alerting(
        rules,
        channels,
        composer_of(settings),
        _disk_of(settings),
        pace=settings.clock.factor,
        headroom=alerts.retention_headroom,
        digest=alerts.digest_at,
    )


def decide(
    settings: Settings,
    incident_id: int,
    act: Act,
    *,
    clock: Callable[[], datetime] | None = None,
    seen: int | None = None,
    between: Callable[[], None] = lambda: None,
) -> Decided:
    """Store a decision, on what others have decided first; `between` is called between reading and writing.

    Args:
        seen: the newest event that the person knew; None: all that there are at the beginning.

    Raises UsageError for an incident that there is not, a decision without author, end or reason, or a login that may
    only look; RefusedError for an incident that is over.
    """
    with existing_database(settings) as engine:
        alerting = alerting_of(settings)
        for _ in range(_ATTEMPTS):
            now = (clock or settings.clock.now)()
            with reading(engine).connect() as conn:
                deployment, standing, before = _found(conn, incident_id)
                if not may_decide(conn):
                    raise UsageError(
                        f"nothing was stored: this login may only look at {shown(engine.url)}; use one of the role"
                        f" {OPERATOR} (for a dashboard: the setting dashboard.operator_database)"
                    )
                lines = history(conn, [incident_id])
                streams = read_streams(conn, deployment, before.open_alerts, now=now)
            seen = max((line.id for line in lines), default=0) if seen is None else seen
            meanwhile = [line for line in lines if line.id > seen]
            done = handle(before, act, streams, now=now)
            between()
            if done is None:
                return Decided(deployment.name, before, before, changed=False, meanwhile=meanwhile)
            after, event = done
            if _stored(engine, deployment, alerting, standing, before, Happened(event, after), now):
                return Decided(deployment.name, before, after, changed=True, meanwhile=meanwhile)
    raise EnvironmentFault(f"incident {incident_id} changed {_ATTEMPTS} times meanwhile: nothing was stored; try again")


def list_incidents(settings: Settings, *, everything: bool, answers: bool = False) -> list[Listed]:
    """Open incidents, newest first, or `everything` that ever was; with their `answers`, which take a while.

    The number of queries does not grow with that of incidents, but for answers that were never told.
    Raises UsageError for an unknown deployment.
    """
    compose = alerting_of(settings).compose
    listed: list[Listed] = []
    with existing_database(settings) as engine, reading(engine).connect() as conn:
        deployments = watched_deployments(conn, settings.deployment)
        if settings.deployment is not None and not deployments:
            known = ", ".join(one.name for one in watched_deployments(conn, None))
            raise UsageError(f"there is no deployment {settings.deployment!r}; known: {known or 'none'}")
        for deployment in deployments:
            incidents = all_incidents(conn, deployment.id, ended=everything)
            lines = histories(conn, deployment.id, ended=everything)
            told = last_told(conn, deployment.id) if answers and everything else {}
            judged = flagged_judged(conn, deployment.id)
            for incident in incidents:
                payload = told.get(incident.id)
                if answers and payload is None:
                    payload = compose(conn, deployment, incident, _newest(incident, lines[incident.id]))
                own = Raised.of(incident.onset, incident.resolved_at, [one.segment for one in incident.alerts])
                said = counts(image for image in judged if own.is_about(image))
                listed.append(Listed(deployment, incident, lines[incident.id], payload, said))
    return sorted(listed, key=lambda one: (one.incident.resolved_at is None, one.incident.opened_at), reverse=True)


def _found(conn: Connection, incident_id: int) -> tuple[Watched, Standing, Incident]:
    incident = incident_by_key(conn, incident_id)
    if incident is None:
        raise UsageError(f"there is no incident {incident_id}; `oodwatch alerts --all` lists them")
    deployment = next(one for one in watched_deployments(conn, None) if one.id == incident.deployment_id)
    standing = read_standing(conn, deployment.id)
    again = incident_by_key(conn, incident_id)  # as of that standing, or of a later one
    assert standing is not None, "an incident is made after it"
    assert again is not None, "an incident is never deleted"
    return deployment, standing, again


def _stored(
    engine: Engine,
    deployment: Watched,
    alerting: Alerting,
    standing: Standing,
    before: Incident,
    happened: Happened,
    now: datetime,
) -> bool:
    """False: somebody else was quicker."""
    key, after = before.id, happened.incident
    try:
        with engine.begin() as conn:
            claim_alerting(conn, standing, transition_id=standing.transition_id, now=now)
            store(conn, deployment, alerting, {key: before}, {key: after}, [happened], now=now)
    except Superseded:
        return False
    return True


def _newest(incident: Incident, lines: Sequence[EventLine]) -> Event:
    """Of the whole incident: its worst alert answers."""
    line = lines[-1]
    states = line.from_state, line.to_state
    return Event(incident.id, None, None, line.at, "note", *states, line.who, line.why)


def _disk_of(settings: Settings) -> Callable[[], Disk | None]:
    file = sqlite_file(settings.database_url)

    def disk() -> Disk | None:
        if file is None:
            return None
        try:
            usage = shutil.disk_usage(file.parent)
        except OSError:
            return None  # whoever writes there will say why
        return Disk(str(file.parent), usage.free, usage.total)

    return disk
