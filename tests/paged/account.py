"""Held against what must be: the incident that was told, and what every channel came to know of it."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from tests.incident.pack import oodwatch
from tests.incident.report import Check
from tests.incident.scenes import MINUTE, Scene
from tests.incident.stage import LATENESS
from tests.paged.listeners import CHANNELS, KEYED, Listeners, heard, pages
from tests.paged.stage import Told

_ONSET_MINUTES = 2
_SEVERITIES = ("info", "warning", "critical")


def of_the_incident(scene: Scene, told: Told, database: str, *, paged: bool) -> Iterator[Check]:
    """One, the right one, ended; `paged`: it counts, else it is provisional."""
    (segment,) = scene.wrong.segments or ()
    kinds = [f"{kind} {state} (at worst {peak})" for kind, _, state, peak, _, _ in told.incidents]
    yield Check(
        "one incident, of the images", ", ".join(kinds) or "none", [one[0] for one in told.incidents] == ["shift"]
    )
    if not told.incidents:
        return
    _, onset, _, _, _, resolved = told.incidents[0]
    off = (onset - scene.onset) / MINUTE
    yield Check(f"its onset within {_ONSET_MINUTES} min of the truth", f"{off:+g} min", abs(off) <= _ONSET_MINUTES)
    yield Check("it ended", "yes" if resolved else "it is open", resolved)
    answer = oodwatch("why", 1, "--database", database, "--json")
    shares = {one["segment"]: one["share"] for one in answer["attribution"] or () if one.get("segment")}
    said = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:3])
    yield Check(f"{segment} on top of its attribution", said, next(iter(shares), None) == segment)
    transitions = [event for event in told.events if event[2] == "raise"]
    words = "counts" if paged else "provisional"
    provisional = {row[5] for row in told.transitions if row[3] not in {"ok", "no_data", "learning"}}
    yield Check(f"all its evidence {words}", f"{len(transitions)} raises", provisional == {not paged})


def of_the_pages(scene: Scene, told: Told, listeners: Listeners) -> Iterator[Check]:
    """Told on every channel, of this incident alone, from its beginning to its end."""
    hook = listeners.bodies("hook")
    triggers = [body for body in hook if body["action"] == "trigger"]
    first = triggers[0] if triggers else None
    (segment,) = scene.wrong.segments or ()
    where = (first or {}).get("segment")
    yield Check("the first page names the segment", str(where), where == segment)
    delay = _first_told(told, scene)
    yield Check("paged within 10 min of the onset, event time", f"{delay:g} min", delay <= 10)
    opened = pages(listeners)
    yield Check("a PagerDuty opens one incident and closes it", f"{sum(opened.values())}", list(opened.values()) == [1])
    others = [body["incident"] for body in hook if body["incident"] != 1]
    yield Check("nothing else is told", f"{len(hook)} of incident 1, {len(others)} of others", not others)
    ends = [body for body in hook if body["action"] == "resolve"]
    yield Check("its end was told, last", f"{len(ends)}", len(ends) == 1 and hook[-1]["action"] == "resolve")
    by_kind = Counter(channel for _, channel, _ in told.outbox.elements())
    counts = ", ".join(f"{name} {by_kind[name]}" for name in CHANNELS)
    yield Check("told on every channel", counts, all(by_kind[name] for name in CHANNELS))
    if listeners.alertmanager is not None:
        sent = [body["status"] for body in _bodies(listeners.sent_on.requests)]
        standing = listeners.alertmanager.alerts()
        fine = "firing" in sent and sent[-1] == "resolved" and not standing
        yield Check("a real Alertmanager fired and resolved", ", ".join(dict.fromkeys(sent)), fine)


def of_the_channels(told: Told, listeners: Listeners, undisturbed: Told, before: Listeners) -> Iterator[Check]:
    """The same as an undisturbed run: stored, and heard by whoever counts each key once."""
    differences = told.differences(undisturbed)
    same = f"{len(told.transitions)} transitions, {len(told.events)} events, {told.outbox.total()} notifications"
    yield Check("all that is stored as undisturbed", ", ".join(differences) or same, not differences)
    left = told.waiting + told.given_up
    yield Check("every notification was delivered", f"{left} were not, {told.attempts} attempts", left == 0)
    rows = Counter(channel for _, channel, action in told.outbox.elements() if (channel, action) != ("pager", "info"))
    for channel in CHANNELS:
        now, then = heard(listeners, channel), heard(before, channel)
        more = f"{now.count - rows[channel]} more" if channel != "am" else "what stands is told again and again"
        found = f"{rows[channel]} notifications, told {now.count} times: {more}"
        if channel in KEYED:
            exact = list(now.told) == list(then.told) and not now.contradictions
            yield Check(f"{channel}: once by key, in order", found, exact and now.count >= rows[channel])
        else:
            wanted = then.told if channel != "am" else _lasting(then.told)
            missing = [one for one in wanted if one not in now.told]
            yield Check(f"{channel}: at least once", found, not missing and now.count >= rows[channel])
    yield Check(
        "a PagerDuty opens as many incidents",
        f"{sum(pages(listeners).values())}",
        _opened(listeners) == _opened(before),
    )


def _opened(listeners: Listeners) -> list[int]:
    return sorted(pages(listeners).values())


def _first_told(told: Told, scene: Scene) -> float:
    """Minutes from the onset until a live monitor would have told it."""
    places = [place for place, channel, action in told.outbox if channel == "pager" and action == "trigger"]
    moved: Any = told.events[min(places)][1] if places else None
    if moved is None:
        return float("inf")
    tick: datetime = moved[0]
    return (tick + MINUTE + LATENESS - scene.onset) / MINUTE


def _bodies(requests: Sequence[Any]) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in list(requests)]


def _lasting(told: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The worst and the last that an Alertmanager heard: it is told what stands, not what stood while nobody lived."""
    return [max(told, key=lambda severities: [_SEVERITIES.index(one) for one in severities]), told[-1]]
