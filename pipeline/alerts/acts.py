"""What people do about an incident: acknowledge it, silence it, expect it, note something. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from pipeline.alerts.changes import top_share
from pipeline.alerts.evidence import Stream
from pipeline.alerts.incident import Event, Handling, Incident, Key
from pipeline.errors import RefusedError, UsageError

_MOST_TEXT = 4_000  # characters of a reason or a note
_NOTICE = timedelta(minutes=15)  # before the end of a silence
_SHORT = timedelta(minutes=30)  # who asks for less remembers it
_HANDLINGS: dict[str, Handling] = {"acknowledge": "acknowledged", "silence": "silenced", "expect": "expected"}


@dataclass(frozen=True, slots=True)
class Act:
    """A person's decision."""

    kind: Literal["acknowledge", "silence", "expect", "note"]
    who: str
    why: str = ""
    until: datetime | None = None  # of silence and expect
    unless_worse: bool = False  # of silence: it ends where twice the share is flagged, or a new segment shows


def check(act: Act, *, now: datetime) -> None:
    """Raises UsageError for a decision without an author, an end or a reason."""
    if not act.who.strip():
        raise UsageError("--name: say who decides this")
    if len(act.why) > _MOST_TEXT:
        raise UsageError(f"a text of {len(act.why):,} characters; write at most {_MOST_TEXT:,}, and link to the rest")
    if "\x00" in act.who + act.why:
        raise UsageError("a text with a NUL character; leave it out")
    if act.kind in {"silence", "expect"}:
        if not act.why.strip():
            raise UsageError("--reason: say why, for those who come later")
        if act.until is None or act.until <= now:
            given = "none" if act.until is None else f"{act.until:%Y-%m-%dT%H:%M:%SZ}, which is over"
            raise UsageError(f"--until {given}: name an end that is to come, as 2h or 2026-11-24T09:00Z")
    elif act.kind == "note" and not act.why.strip():
        raise UsageError("a note without a text: write one")


def handle(
    incident: Incident, act: Act, streams: Mapping[Key, Stream], *, now: datetime
) -> tuple[Incident, Event] | None:
    """The incident as it then is, and the event; None: it is so already.

    Raises UsageError as `check` does, RefusedError for an incident that is over and can only be noted on.
    """
    check(act, now=now)
    if act.kind == "note":
        return incident, Event(incident.id, None, None, now, "note", None, None, act.who, act.why)
    if incident.resolved_at is not None:
        raise RefusedError(
            f"incident {incident.id} ended at {incident.resolved_at:%Y-%m-%dT%H:%MZ}: there is nothing to {act.kind};"
            f" `oodwatch note {incident.id} TEXT` still adds to its history"
        )
    handling = _HANDLINGS[act.kind]
    if handling == incident.handling == "acknowledged":
        return None if not act.why else handle(incident, replace(act, kind="note"), streams, now=now)
    share = top_share(incident, streams)
    after = replace(
        incident,
        handling=handling,
        handled_until=act.until if handling != "acknowledged" else None,
        handled_by=act.who,
        exception={"share": share} if act.unless_worse and handling == "silenced" else None,
        notice_at=act.until - _NOTICE if act.until is not None and act.until - now >= _SHORT else None,
    )
    loud = incident.told_at is not None  # those who were told may stop calling
    return after, Event(incident.id, None, None, now, act.kind, incident.handling, handling, act.who, act.why, loud)
