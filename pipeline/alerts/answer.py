"""The answer to a page: what, since when, where, why, whether it matters, and whether it can be trusted.

`payload` is webhook v1: plain values, of which messages, pages and the dashboard are made.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

from pipeline.alerts.accuracy import Labelled, Matters, Proportion
from pipeline.alerts.attribution import Share
from pipeline.alerts.cause import Cause, apart
from pipeline.alerts.incident import Alert, Event, Incident, rank, severity
from pipeline.alerts.signs import Mark

VERSION = 1
_FRACTION = "fraction"

#: What a value counts, by the alert that leads.
Unit = Literal["share of images flagged", "images a minute"]


@dataclass(frozen=True, slots=True)
class Value:
    """How much it is now, and how much is normal."""

    unit: Unit
    now: float | None  # None: no image since the onset
    low: float | None  # its 95 % interval
    high: float | None
    normal: float | None
    n: float  # images since the onset
    n_effective: float  # the same, counted as independent ones


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the excess comes from."""

    of: str  # what is shared out, in words
    segments: tuple[Share, ...]
    classes: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether the figures can be believed."""

    newest_result_age_s: float | None
    lag_records: int
    scored_ratio: float | None  # of the records that should have been scored
    n_effective: float
    reservations: tuple[str, ...]  # in words; none: nothing speaks against them


@dataclass(frozen=True, slots=True)
class Names:
    """What things are called."""

    deployment: str
    model_id: str
    reference: str
    baseline: int | None  # its version


@dataclass(frozen=True, slots=True)
class Answer:
    """All of it."""

    names: Names
    incident: Incident
    lead: Alert | None  # the alert that the figures are of
    window: tuple[datetime, datetime]  # event time, from that alert's onset
    levels: tuple[float, float]  # warning, critical
    value: Value | None
    attribution: Attribution | None
    causes: tuple[Cause, ...]
    matters: Matters | None
    trust: Trust
    marks: tuple[Mark, ...]
    unusual: tuple[int, ...]  # keys of samples
    usual: tuple[int, ...]
    dashboard_url: str | None


def leading_alert(incident: Incident, event: Event | None) -> Alert | None:
    """The event's own alert; else the worst open one, shares of flagged images and segments before the rest."""
    known = incident.open_alerts or incident.alerts
    if event is not None and event.alert is not None:
        own = [alert for alert in incident.alerts if alert.key == event.alert]
        if own:
            return own[-1]
    resolved = not incident.open_alerts

    def importance(alert: Alert) -> tuple[int, bool, bool, float]:
        state = alert.peak if resolved else alert.state
        return rank(state), alert.signal == _FRACTION, bool(alert.segment), -alert.onset.timestamp()

    return max(known, key=importance, default=None)


def payload(answer: Answer, event: Event, event_id: int | None = None) -> dict[str, Any]:
    """Webhook v1. `transition` is the event's key, where it has one already."""
    incident, lead, names, value = answer.incident, answer.lead, answer.names, answer.value
    return {
        "version": VERSION,
        "transition": event_id,
        "incident": incident.id,
        "alert": None if lead is None else _alert(lead),
        "fingerprint": f"oodwatch/{names.deployment}/{incident.id}",
        "at": _iso(event.at),
        "kind": event.kind,
        "from": event.from_state,
        "to": event.to_state,
        "who": event.who,
        "why": event.why,
        "severity": _severity(incident, event),
        "state": incident.state,
        "peak": incident.peak,
        "provisional": incident.provisional,
        "handling": incident.handling,
        "handled_by": incident.handled_by,
        "handled_until": None if incident.handled_until is None else _iso(incident.handled_until),
        "deployment": names.deployment,
        "model": names.model_id,
        "reference": names.reference,
        "baseline": names.baseline,
        "segment": None if lead is None else lead.segment or None,
        "alerts": [_alert(alert) for alert in incident.open_alerts],
        "window": {"from": _iso(answer.window[0]), "to": _iso(answer.window[1])},
        "unit": None if value is None else value.unit,
        "value": None if value is None else value.now,
        "interval": None if value is None or value.low is None else {"low": value.low, "high": value.high},
        "normal": None if value is None else value.normal,
        "warning": answer.levels[0],
        "critical": answer.levels[1],
        "n": None if value is None else value.n,
        "n_effective": None if value is None else value.n_effective,
        "onset": _iso(answer.window[0]),
        "attribution": _attribution(answer.attribution),
        "attribution_of": None if answer.attribution is None else answer.attribution.of,
        "cause": [
            {"kind": cause.kind, "title": cause.title, "score": round(cause.score, 3), "evidence": list(cause.evidence)}
            for cause in answer.causes
        ],
        "matters": None if answer.matters is None else _matters(answer.matters),
        "trust": _trust(answer.trust),
        "marks": [
            {"at": _iso(mark.at), "text": mark.text, "who": mark.who, "when": apart(mark.at, answer.window[0])}
            for mark in answer.marks
        ],
        "thumbnails": {"unusual": list(answer.unusual), "usual": list(answer.usual)},
        "links": links(answer.dashboard_url, incident.id, answer.window),
        "command": f"oodwatch why {incident.id}",
    }


def links(dashboard_url: str | None, incident_id: int, window: tuple[datetime, datetime]) -> dict[str, str]:
    """Where to look; times in milliseconds since 1970, which no time zone changes. Nothing without a dashboard."""
    if dashboard_url is None:
        return {}
    start, end = (int(at.timestamp() * 1000) for at in window)
    query = urlencode({"incident": incident_id, "from": start, "to": end})
    return {"dashboard": f"{dashboard_url.rstrip('/')}/?{query}"}


def _severity(incident: Incident, event: Event) -> str:
    """Of what is so now; of what has ended, how bad it was."""
    state = event.to_state if event.to_state is not None and rank(event.to_state) else incident.state
    return severity(state if rank(state) else incident.peak)


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "signal": alert.signal,
        "segment": alert.segment,
        "state": alert.state,
        "peak": alert.peak,
        "onset": _iso(alert.onset),
        "detail": alert.detail,
        "provisional": alert.provisional,
    }


def _attribution(found: Attribution | None) -> list[dict[str, Any]]:
    """Shares of segments, which sum to 1, and then of classes, which do so too."""
    if found is None:
        return []
    of_segments = [_share("segment", one) for one in found.segments]
    return of_segments + [_share("class", one) for one in found.classes]


def _share(what: str, one: Share) -> dict[str, Any]:
    return {
        what: one.name,
        "share": one.percent / 100,
        "excess": round(one.excess, 1),
        "value": one.share,
        "normal": one.normal,
    }


def _matters(found: Matters) -> dict[str, Any]:
    return {
        "reference_accuracy": found.reference_accuracy,
        "accuracy_at_most": _proportion(found.at_most),
        "labels": None if found.labelled is None else _labelled(found.labelled),
        "because": found.because,
    }


def _labelled(found: Labelled) -> dict[str, Any]:
    return {
        "source": found.source,
        "accuracy": _proportion(found.all),
        "among_flagged": _proportion(found.flagged),
        "among_others": _proportion(found.unflagged),
        "segments": [{"segment": name, **(_proportion(one) or {})} for name, one in found.segments.items()],
    }


def _proportion(found: Proportion | None) -> dict[str, float] | None:
    return None if found is None else {"share": found.share, "low": found.low, "high": found.high, "n": found.n}


def _trust(trust: Trust) -> dict[str, Any]:
    return {
        "newest_result_age_seconds": trust.newest_result_age_s,
        "lag_records": trust.lag_records,
        "scored_ratio": trust.scored_ratio,
        "n_effective": trust.n_effective,
        "reservations": list(trust.reservations),
    }


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
