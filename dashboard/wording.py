"""Sentences of the Overview. Pure; whoever shows them escapes them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dashboard.facts import FEW, SIGNALS, Excess, Trust, Verdict
from dashboard.times import Clock, ago, percent
from pipeline.storage.incident_pages import IncidentLine

_WORDS = {
    "shift": "Shift",
    "warning": "Warning: shift",
    "critical": "Critical shift",
    "error": "The pipeline has a fault",
}
_OTHER_SIGNALS = {
    "histogram": "Scores have changed",
    "low": "Scores are lower than normal",
    "classes": "Another mix of classes",
    "coverage": "Other content",
    "rate": "Traffic has changed",
    "silence": "No images come",
}


def headline(verdict: Verdict, trusted: Trust, *, now: datetime, clock: Clock, learning: bool) -> str:
    """What is so, in one sentence; never an old green."""
    if verdict.severity == "ok":
        if trusted.data_to is None:
            return "No image has been scored yet."
        if trusted.stale:
            return f"Unknown. It was normal until {clock.short(trusted.data_to, now)}."
        return "Learning: too little is known to raise anything." if learning else "Normal."
    faulty = verdict.severity == "error" or (verdict.incident is not None and verdict.incident.kind == "health")
    what = _WORDS["error"] if faulty else _OTHER_SIGNALS.get(verdict.signal, _WORDS[verdict.severity])
    where = f" on {verdict.segment}" if verdict.segment else " on all traffic" if verdict.signal == "fraction" else ""
    more = f" and {verdict.more_segments} more" if verdict.more_segments else ""
    since = "" if verdict.onset is None else f" since {clock.short(verdict.onset, now)}"
    if verdict.incident is not None and verdict.incident.resolved_at is not None:
        ended = clock.short(verdict.incident.resolved_at, now)
        began = "" if verdict.onset is None else f", {clock.short(verdict.onset, now)} to {ended}"
        return f"Over: {what.lower().removeprefix('warning: ')}{where}{began}"
    return f"{what}{where}{more}{since}"


def details(
    verdict: Verdict,
    shares: Sequence[Excess],
    answer: Mapping[str, Any],
    *,
    now: datetime,
    clock: Clock,
) -> list[str]:
    """How much, against what, how much of all of it, what it looks like, whether it matters, who has it."""
    told: list[str] = []
    own = next((one for one in shares if one.segment == verdict.segment), None)
    if verdict.incident is not None and verdict.incident.kind == "health":
        told += [alert.detail for alert in verdict.incident.alerts if alert.resolved_at is None and alert.detail]
    elif own is not None:
        told.append(_amount(own))
        if own.of_all >= 0.005:
            told.append(f"{own.of_all:.0%} of the excess".replace("%", " %"))
    elif verdict.share is not None:
        told.append(f"{percent(verdict.share)} unusual since then")
    causes = answer.get("cause") or []
    if causes and causes[0].get("kind") != "unknown":
        told.append(f"looks like {causes[0].get('title', '')}")
    if (accuracy := ((answer.get("matters") or {}).get("accuracy_at_most") or {}).get("share")) is not None:
        told.append(f"accuracy at most {percent(accuracy)}")
    if verdict.provisional:
        told.append("provisional: never paged until somebody accepts a baseline")
    if verdict.incident is not None:
        told.append(handling(verdict.incident, now=now, clock=clock))
    elif verdict.severity != "ok":
        told.append("no incident is open for it")
    return told


def quiet(pages: int, last: datetime | None, *, now: datetime, budget_days: float, baseline: int | None) -> list[str]:
    """What is said where nothing is wrong."""
    when = "No page ever" if last is None else f"Last page {ago(now - last)} ago"
    month = "this month" if round(budget_days) == 30 else f"in {budget_days:g} days"
    told = [f"{when}; {pages} of 1 allowed {month}"]
    if baseline is None:
        told.append("no baseline is accepted, so what is raised is provisional and never paged")
    return told


def handling(incident: IncidentLine, *, now: datetime, clock: Clock) -> str:
    """Who has it."""
    who = incident.handled_by or "somebody"
    until = "" if incident.handled_until is None else f" until {clock.short(incident.handled_until, now)}"
    return {
        "open": "nobody has it",
        "acknowledged": f"{who} has it",
        "silenced": f"silenced by {who}{until}",
        "expected": f"expected by {who}{until}",
        "resolved": f"resolved; {incident.handled_by} had it" if incident.handled_by else "resolved by itself",
    }.get(incident.handling, incident.handling)


def trust_words(trusted: Trust, *, clock: Clock, now: datetime) -> list[str]:
    """The strip's middle: how far the data go, what was scored, who is silent."""
    told: list[str] = []
    if trusted.data_to is not None and trusted.age is not None:
        if trusted.stale:
            told.append(f"{_why_stale(trusted)} Figures are those of {clock.short(trusted.data_to, now)}.")
        else:
            told.append(f"data to {clock.exact(trusted.data_to)}, {ago(trusted.age)} old")
    if trusted.scored is not None:
        told.append(f"{_floored(trusted.scored)} scored")
    if trusted.waiting > 1_000:
        told.append(f"{trusted.waiting:,} images wait")
    return told + list(trusted.reservations)


def signal_word(signal: str, state: str) -> str:
    """A signal's state in a word or two."""
    return {"ok": "ok", "no_data": "no data", "learning": "learning", "": "not watched"}.get(state, state)


def signal_name(signal: str) -> str:
    """What a signal is called."""
    return SIGNALS.get(signal, signal)


def _amount(own: Excess) -> str:
    if own.n < FEW:
        return f"n = {own.n}, too few to judge"
    return f"{percent(own.share or 0.0)} unusual, normally {percent(own.normal)} (n {own.n:,})"


def _why_stale(trusted: Trust) -> str:
    if trusted.stale == "No new image for" and trusted.age is not None:
        return f"No new image for {ago(trusted.age)}."
    return "The monitor is behind."


def _floored(share: float) -> str:
    """Never rounded up to 100 %."""
    return f"{int(share * 10_000) / 100:.2f} %" if share < 1 else "100 %"


def length(window: timedelta) -> str:
    """A window's length in words."""
    return ago(window)
