"""What Alertmanager is to be told of an incident, as often as it is asked: it forgets what nobody renews.

Labels are an alert's identity there, so they must not move with every value: they are those of the first
notification of each severity. The worst severity so far fires; a lesser one ended when a worse one came.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipeline.alerts.letter import MADE_UP, body, title
from pipeline.alerts.notification import Notification

#: How often it is renewed at least, and how many of these it outlives: a monitor may be started anew meanwhile.
RENEW_AFTER = timedelta(minutes=1)
_OUTLIVES = 3
#: How long an end is told again: the receiver may have been away.
KEPT_UP = timedelta(minutes=5)

_WORST_FIRST = ("critical", "error", "warning", "info")
_LONGEST = 1_000


@dataclass(frozen=True, slots=True)
class Standing:
    """An incident as one channel knows it."""

    incident_id: int
    onset: datetime
    handling: str
    resolved_at: datetime | None
    told: tuple[Notification, ...]  # in order, with the one that is being told


def alerts_of(standing: Sequence[Standing], now: datetime, keep: timedelta | None = KEPT_UP) -> list[dict[str, Any]]:
    """The body of `POST /api/v2/alerts`; what ended longer ago than `keep` is left out."""
    return [
        _alert(incident, told, now + _OUTLIVES * RENEW_AFTER if ends is None else ends)
        for incident in standing
        for told, ends in _spells(incident)
        if ends is None or keep is None or now - ends <= keep
    ]


def _spells(incident: Standing) -> Iterator[tuple[Notification, datetime | None]]:
    """The first notification of each severity since the incident was last opened, and when it ended."""
    first: dict[str, Notification] = {}
    over = False
    for told in incident.told:
        if told.action == "trigger":
            first = {} if over else first
            first.setdefault(told.severity, told)
        over = told.action == "resolve"
    ends = incident.resolved_at
    for severity in sorted(first, key=_WORST_FIRST.index):
        began = first[severity].created_at
        if ends is None or began < ends:
            yield first[severity], ends
        ends = began if ends is None else min(ends, began)


def _alert(incident: Standing, told: Notification, ends: datetime) -> dict[str, Any]:
    newest = incident.told[-1]
    link = newest.link
    return {
        "labels": labels_of(told),
        "annotations": {
            "summary": title(newest)[:_LONGEST],
            "description": body(newest)[: 4 * _LONGEST],
            "handling": incident.handling,
            "incident": str(incident.incident_id),
            **({"dashboard": link} if link else {}),
        },
        "startsAt": min(incident.onset, told.created_at).isoformat(),
        "endsAt": ends.isoformat(),
        **({"generatorURL": link} if link else {}),
    }


def labels_of(told: Notification) -> dict[str, str]:
    """No values and no times; an empty label is none."""
    alert = told.payload.get("alert")
    known = alert if isinstance(alert, Mapping) else {}
    labels = {
        "alertname": next(
            (f"Oodwatch{name.title()}" for name in MADE_UP if told.payload.get(name) is True), "Oodwatch"
        ),
        "deployment": told.text("deployment"),
        "model": told.text("model"),
        "reference": told.text("reference"),
        "signal": str(known.get("signal") or ""),
        "segment": told.text("segment"),
        "severity": told.severity,
    }
    return {name: value[:_LONGEST] for name, value in labels.items() if value}
