"""What happens to incidents: evidence comes, time passes. Pure.

A raise opens an alert and, where none of its kind is open, an incident; an incident ends with its last alert. An
alert that is back soon after its end goes on, and so does its incident. Told is what rises above all that was told
before, or is wrong in a new place; never the same again, except what is critical and nobody has acknowledged.
Nothing is told of provisional alerts, in a silence, of what lies long back, or of what rests on scores while these
cannot be held against their reference.

What is read anew from the database and taken in again gives the same events: nothing here has a memory of its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipeline.alerts.changes import (
    brought_back,
    new_alert,
    new_incident,
    put,
    reopened,
    told,
    top_share,
    unhandled,
    updated,
)
from pipeline.alerts.evidence import Evidence, Stream
from pipeline.alerts.incident import SILENCE, Alert, Event, Incident, Key, Kind, rank
from pipeline.alerts.validity import HELD, VALID_AGAIN, held_back, is_held

MONITOR = "monitor"

_WORSE = 2  # times the share that was silenced: its exception
_REPEATED = ("critical", "error")


@dataclass(frozen=True, slots=True)
class Rules:
    """When to tell, and how long an end may be taken back."""

    page_provisional: bool = False
    repeat: timedelta = timedelta(hours=4)
    max_page_age: timedelta = timedelta(hours=2)
    reopen: timedelta = timedelta(hours=24)
    reopen_health: timedelta = timedelta(hours=1)  # what failed once more on the same day has to be told


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, and the incident right after it."""

    event: Event
    incident: Incident


class Casebook:
    """The incidents of one deployment that are open or ended lately; takes in, in order, what happens."""

    def __init__(self, deployment_id: int, incidents: Iterable[Incident], rules: Rules) -> None:
        self._deployment_id = deployment_id
        self._rules = rules
        self._made = 0  # incidents and alerts that have no key yet
        self.incidents = {incident.id: incident for incident in incidents}
        self.happened: list[Happened] = []

    def follow(self, seen: Evidence, *, now: datetime) -> None:
        """A signal has changed its state."""
        fresh = self._is_fresh(seen.newest, now)
        found = self._open_alert(seen.key)
        if found is not None and found[0].kind == "shift" and found[1].reference_id != seen.reference_id:
            if not rank(seen.state):
                return  # the last word of a reference that the alert does not rest on
            self._end(*found, seen.at, "withdraw", "another reference judges this traffic now", seen.transition_id)
            found = None
        if found is None:
            if rank(seen.state):
                self._begin(seen, fresh=fresh)
        elif rank(seen.state):
            self._move(*found, seen, fresh=fresh)
        elif seen.withdrawn:
            self._end(*found, seen.at, "withdraw", "the detector begins anew, with no evidence", seen.transition_id)
        else:
            self._end(*found, seen.at, "resolve", seen.detail, seen.transition_id)

    def look(self, streams: Mapping[Key, Stream], *, now: datetime) -> None:
        """Time has passed: silences end, what goes on is told again, what nobody judges any more is withdrawn."""
        for incident in list(self.incidents.values()):
            for alert in incident.open_alerts:
                stream = streams.get(alert.key)
                if stream is not None and stream.ended:
                    which = self.incidents[incident.id]
                    self._end(which, alert, now, "withdraw", "its reference scores no more", None)
            if (left := self.incidents[incident.id]).resolved_at is None:
                self._pass(left, streams, now)

    def _begin(self, seen: Evidence, *, fresh: bool) -> None:
        former = self._former(seen)
        incident = self._open_incident(seen.kind)
        if incident is None:
            incident = (
                new_incident(self._new_id(), self._deployment_id, seen)
                if former is None
                else reopened(former[0], seen.at)
            )
        alert = new_alert(self._new_id(), seen) if former is None else brought_back(former[1], seen)
        if former is not None and former[0].id != incident.id:
            alert = replace(alert, id=self._new_id())  # it joins another incident: its first history stays where it is
        known = former is not None or incident.place(alert) in _places(incident, incident.alerts)
        if (
            incident.is_quiet
            and incident.exception is not None
            and not known
            and self._counts(incident, alert, fresh=fresh)
        ):
            why = f"{incident.handled_by}'s silence was not for {alert.segment or alert.signal}"
            incident = self._unsilenced(incident, seen.at, why, loud=False)
        kind: Kind = "reopen" if former is not None else "raise" if fresh else "late"
        if seen.state == "baseline_invalid" and kind == "raise":
            kind = "baseline_invalid"
        others = bool(incident.open_alerts)
        loud = self._is_loud(incident, alert, fresh=fresh, new_place=not known)
        self._note(put(incident, alert), kind, seen, alert, from_state="ok", loud=loud)
        if seen.signal == SILENCE and others:
            self._mark(incident.id, "blind", seen, "no images come: nothing that is open can end before they do")

    def _move(self, incident: Incident, alert: Alert, seen: Evidence, *, fresh: bool) -> None:
        if seen.state == alert.state:
            return
        up = rank(seen.state) > rank(alert.state)
        moved = updated(alert, seen)
        loud = up and self._is_loud(incident, moved, fresh=fresh, new_place=False)
        kind: Kind = "escalate" if up else "step_down"
        self._note(put(incident, moved), kind, seen, moved, from_state=alert.state, loud=loud)

    def _end(
        self, incident: Incident, alert: Alert, at: datetime, kind: Kind, why: str, transition_id: int | None
    ) -> None:
        """An alert ends, and its incident with the last one; that is told where anything was."""
        state = "ok" if kind == "resolve" else "no_data"
        left = put(incident, replace(alert, state=state, updated_at=at, resolved_at=at))
        event = Event(incident.id, alert.key, transition_id, at, kind, alert.state, state, MONITOR, why)
        self._add(event, left)
        if left.open_alerts:
            if alert.signal == SILENCE:
                seen = replace(
                    event, alert=None, kind="sighted", from_state=None, to_state=None, why="images come again"
                )
                self._add(seen, left)
            return
        over = replace(left, handling="resolved", resolved_at=at)
        loud = over.told_at is not None
        self._add(replace(event, alert=None, kind="resolve", from_state=incident.state, to_state="ok", loud=loud), over)

    def _pass(self, incident: Incident, streams: Mapping[Key, Stream], now: datetime) -> None:
        heard = [
            alert
            for alert in incident.open_alerts
            if (stream := streams.get(alert.key)) is not None
            and self._counts(incident, alert, fresh=self._is_fresh(stream.newest, now))
        ]
        top = max((alert.state for alert in heard), key=rank, default="ok")
        if incident.is_quiet:
            if not heard and any(self._is_held(incident, alert) for alert in incident.open_alerts):
                return  # its end waits: nobody could be told that it goes on
            if (why := _why_it_ends(incident, top_share(incident, streams), now)) is not None:
                self._unsilenced(incident, now, why, loud=bool(heard), state=top if heard else incident.state)
            elif incident.notice_at is not None and incident.notice_at <= now:
                end = f"{incident.handling} by {incident.handled_by} until {incident.handled_until:%Y-%m-%d %H:%MZ}"
                why = f"{end}, which is soon: if it goes on then, that is told"
                event = Event(incident.id, None, None, now, "ends_soon", None, None, MONITOR, why, loud=bool(heard))
                self._add(event, replace(incident, notice_at=None))
            return
        last = incident.told_at or max(alert.raised_at for alert in incident.open_alerts)
        due = incident.handling == "open" and top in _REPEATED and now - last >= self._rules.repeat
        held = held_back(incident, heard, self.incidents.values(), since=now - self._rules.reopen)
        if due or rank(top) > rank(incident.told or "ok") or not _places(incident, held) <= _told_places(incident):
            why = VALID_AGAIN if held else "nobody has acknowledged it" if due else "it goes on"
            event = Event(incident.id, None, None, now, "repeat", top, top, MONITOR, why, loud=True)
            self._add(event, told(incident, top, now))

    def _unsilenced(
        self, incident: Incident, at: datetime, why: str, *, loud: bool, state: str | None = None
    ) -> Incident:
        opened = unhandled(incident)
        if loud:
            opened = told(opened, state or incident.state, at)
        to_state = state or incident.state
        self._add(Event(incident.id, None, None, at, "expire", to_state, to_state, MONITOR, why, loud), opened)
        return opened

    def _note(
        self, incident: Incident, kind: Kind, seen: Evidence, alert: Alert, *, from_state: str, loud: bool
    ) -> None:
        if loud:
            incident = told(incident, alert.state, seen.at)
        held = rank(alert.state) > rank(from_state) and self._is_held(incident, alert)
        self._add(
            Event(
                incident.id,
                alert.key,
                seen.transition_id,
                seen.at,
                kind,
                from_state,
                alert.state,
                MONITOR,
                "; ".join(filter(None, (seen.detail, HELD if held else ""))),
                loud,
            ),
            incident,
        )

    def _mark(self, incident_id: int, kind: Kind, seen: Evidence, why: str) -> None:
        incident = self.incidents[incident_id]
        self._add(Event(incident_id, None, seen.transition_id, seen.at, kind, None, None, MONITOR, why), incident)

    def _add(self, event: Event, incident: Incident) -> None:
        self.incidents[incident.id] = incident
        self.happened.append(Happened(event, incident))

    def _is_fresh(self, newest: datetime, now: datetime) -> bool:
        return now - newest <= self._rules.max_page_age

    def _counts(self, incident: Incident, alert: Alert, *, fresh: bool) -> bool:
        known = self._rules.page_provisional or not alert.provisional
        return fresh and known and not self._is_held(incident, alert)

    def _is_held(self, incident: Incident, alert: Alert) -> bool:
        return is_held(incident, alert, self.incidents.values())

    def _is_loud(self, incident: Incident, alert: Alert, *, fresh: bool, new_place: bool) -> bool:
        above = new_place or rank(alert.state) > rank(incident.told or "ok")
        return above and not incident.is_quiet and self._counts(incident, alert, fresh=fresh)

    def _open_incident(self, kind: str) -> Incident | None:
        open_ones = (one for one in self.incidents.values() if one.kind == kind and one.resolved_at is None)
        return next(open_ones, None)

    def _open_alert(self, key: Key) -> tuple[Incident, Alert] | None:
        found = (
            (incident, alert)
            for incident in self.incidents.values()
            for alert in incident.open_alerts
            if alert.key == key
        )
        return next(found, None)

    def _former(self, seen: Evidence) -> tuple[Incident, Alert] | None:
        """The same alert, if it was ok again for a short time only. A withdrawn one was never ok."""
        window = self._rules.reopen if seen.kind == "shift" else self._rules.reopen_health
        ended = [
            (alert.resolved_at, incident, alert)
            for incident in self.incidents.values()
            for alert in incident.alerts
            if incident.kind == seen.kind and alert.key == seen.key and alert.state == "ok"
            if alert.resolved_at is not None and seen.at - alert.resolved_at <= window
        ]
        if not ended:
            return None
        _, incident, alert = max(reversed(ended), key=lambda one: one[0])  # of equals the one made last
        return incident, alert

    def _new_id(self) -> int:
        self._made += 1
        return -self._made


def _places(incident: Incident, alerts: Iterable[Alert]) -> set[str]:
    return {incident.place(alert) for alert in alerts}


def _told_places(incident: Incident) -> set[str]:
    """Where something was wrong when it was told last."""
    at = incident.told_at
    return _places(incident, (alert for alert in incident.alerts if at is not None and alert.raised_at <= at))


def _why_it_ends(incident: Incident, share: float | None, now: datetime) -> str | None:
    if incident.handled_until is not None and incident.handled_until <= now:
        return f"{incident.handling} by {incident.handled_by} until now, and it goes on"
    silenced = None if incident.exception is None else incident.exception.get("share")
    if silenced is not None and share is not None and share >= _WORSE * silenced:
        return f"{share:.1%} are flagged, and it was {silenced:.1%} when {incident.handled_by} silenced it"
    return None
