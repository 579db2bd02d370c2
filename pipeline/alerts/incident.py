"""Alerts, the incidents that gather them, what happened to these, and who is told. Pure.

Two axes that never mix: the state of the evidence, which is computed, and how people handle an incident.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Kind = Literal[
    "raise",  # an alert left ok
    "late",  # so did this one, but all that speaks for it lies long back: listed, never told
    "baseline_invalid",  # so did this one: scores cannot be held against their reference
    "reopen",  # an alert is back soon after it had ended
    "escalate",
    "step_down",
    "withdraw",  # an alert ended because its detector begins anew: that says nothing about the traffic
    "resolve",  # an alert is ok; without an alert: all of the incident's are
    "blind",  # no images come: other open alerts cannot end
    "sighted",
    "acknowledge",
    "silence",
    "expect",
    "note",
    "ends_soon",  # a silence is about to end, and what it silences goes on
    "expire",  # a silence ended, by its time or its exception
    "repeat",  # it goes on, and nobody has acknowledged it
]
Handling = Literal["open", "acknowledged", "silenced", "expected", "resolved"]
Action = Literal["trigger", "acknowledge", "resolve", "info"]
Key = tuple[str, str]  # signal, segment

#: The signal that says that no images come.
SILENCE = "silence"
#: Kinds of what is told and is no incident: it is never open, and no list of incidents holds it.
DRILL, DIGEST = "drill", "digest"
UNLISTED = (DRILL, DIGEST)

_RANKS = {"shift": 1, "warning": 2, "error": 3, "baseline_invalid": 3, "critical": 4}
_SEVERITIES = {"shift": "info", "warning": "warning", "error": "error", "baseline_invalid": "error"}
_MOST_ASKED = 3  # who wants to hear of what is critical hears of errors too
_ACTIONS: Mapping[str, Action] = {
    "acknowledge": "acknowledge",
    "silence": "acknowledge",
    "expect": "acknowledge",
    "resolve": "resolve",
}
_TRIGGERS = ("raise", "baseline_invalid", "reopen", "escalate", "expire", "repeat")


def rank(state: str) -> int:
    """How bad a state of evidence is; 0: not at all, as ok, learning, no_data."""
    return _RANKS.get(state, 0)


def severity(state: str) -> str:
    """In the words of pagers: info, warning, error, critical; ok where nothing is wrong."""
    return _SEVERITIES.get(state, "critical" if rank(state) else "ok")


def worse(first: str, second: str) -> str:
    """The one of higher rank; of equals the first."""
    return max(first, second, key=rank)


@dataclass(frozen=True, slots=True)
class Alert:
    """One (signal, segment) that left ok, until it is back; numbers as its newest evidence said."""

    id: int  # negative until it is stored
    signal: str
    segment: str  # empty: all traffic
    reference_id: int
    state: str  # once it has ended: ok, or no_data where it was withdrawn
    peak: str
    provisional: bool
    onset: datetime  # event time
    share: float | None
    low: float | None
    high: float | None
    k: float | None
    n: float | None
    detail: str
    raised_at: datetime  # processing time, as all that follow
    updated_at: datetime
    resolved_at: datetime | None

    @property
    def key(self) -> Key:
        """What tells it from others that are open at the same time."""
        return self.signal, self.segment


@dataclass(frozen=True, slots=True)
class Incident:
    """The overlapping alerts of one deployment and kind, as people see them."""

    id: int  # negative until it is stored
    deployment_id: int
    kind: str  # shift, health
    handling: Handling
    handled_until: datetime | None
    handled_by: str | None
    exception: Mapping[str, Any] | None  # what ends a silence early: see `lifecycle`
    onset: datetime  # the earliest of its alerts
    state: str  # the top of its open alerts
    peak: str
    provisional: bool  # all its open alerts are
    opened_at: datetime
    resolved_at: datetime | None
    alerts: tuple[Alert, ...]
    told: str | None = None  # the worst state that was told
    told_at: datetime | None = None  # when it was told last, since it was opened or reopened
    notice_at: datetime | None = (
        None  # from when on it is said that a silence ends soon; None: it is said, or need not be
    )

    @property
    def open_alerts(self) -> tuple[Alert, ...]:
        """Those that have not ended."""
        return tuple(alert for alert in self.alerts if alert.resolved_at is None)

    @property
    def is_quiet(self) -> bool:
        """Silenced or expected."""
        return self.handling in {"silenced", "expected"}

    def place(self, alert: Alert) -> str:
        """What is wrong, where: a new one is told of even in an incident that people know."""
        return alert.signal if self.kind == "health" or alert.signal == SILENCE else alert.segment


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an incident, who did it and why. States are of evidence; of an act, of handling."""

    incident_id: int
    alert: Key | None
    transition_id: int | None
    at: datetime  # processing time
    kind: Kind
    from_state: str | None
    to_state: str | None
    who: str
    why: str
    loud: bool = False  # to be told, where a channel wants to hear of it


@dataclass(frozen=True, slots=True)
class Channel:
    """Who hears of what."""

    name: str
    min_state: str = "shift"  # shift, warning, critical: the least that it wants to hear of
    acknowledges: bool = False  # it can be told that somebody takes care
    informed: bool = False  # it hears of everything that happens to an incident that it was told of
    digest: bool = False  # it is told of each day


def action_of(event: Event) -> Action:
    """What a channel is to do about an event."""
    if not event.loud:
        return "info"
    return "trigger" if event.kind in _TRIGGERS else _ACTIONS.get(event.kind, "info")


def told_to(event: Event, incident: Incident, channels: Sequence[Channel]) -> list[str]:
    """Names of the channels that hear of an event; `incident` as it was right after it.

    An incident's end, and that somebody handles it, goes where its worst state was told; that a silence ends soon, to
    those of them that hear of handling.
    """
    if not event.loud and (incident.told is None or incident.is_quiet):
        return []
    handled = action_of(event) in {"acknowledge", "info"}
    beginning = action_of(event) == "trigger"
    height = rank((event.to_state if beginning else incident.told) or "ok")
    return [
        channel.name
        for channel in channels
        if (channel.informed or (event.loud and (channel.acknowledges or not handled)))
        and height >= min(rank(channel.min_state), _MOST_ASKED)
    ]
