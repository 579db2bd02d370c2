"""Addresses that reproduce a view: `?from&to&segment&without&incident&against`, times in milliseconds since 1970.

`against` is the window that this one is held against: `before`, `day` or `week` (as much earlier), or `MS-MS`.
`without` may stand there several times: each is a segment that is left out.

Whatever stands in an address, a page is shown; what was not understood is said, one message each.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, get_args

from dashboard.windows import MINUTE, Window, from_ms, to_ms

NAMES = ("from", "to", "segment", "without", "incident", "against")
Query = Mapping[str, str | Sequence[str]]
Earlier = Literal["before", "day", "week"]
_LONGEST_SHOWN = 40
_SO = "so the newest images are shown"
_SO_BEFORE = "so the window before is compared"
_DAYS: Mapping[Earlier, int] = {"day": 1, "week": 7}


@dataclass(frozen=True, slots=True)
class View:
    """What a page looks at; nothing pinned: the newest images of all traffic."""

    window: Window | None = None
    segment: str | None = None
    incident: int | None = None
    against: Window | Earlier = "before"
    without: tuple[str, ...] = ()  # segments that are left out


def parse(query: Query, *, now: datetime) -> tuple[View, tuple[str, ...]]:
    """The view of an address, and what of it was not understood."""
    one = {name: given if isinstance(given, str) else next(iter(given), "") for name, given in query.items()}
    left_out = query.get("without", ())
    window, said = _window(one.get("from"), one.get("to"), now)
    messages = [said] if said else []
    incident: int | None = None
    if (given := one.get("incident")) is not None:
        if re.fullmatch(r"[0-9]{1,18}", given):
            incident = int(given)
        else:
            messages.append(f"The link's incident {_shown(given)} is no number, so all traffic is shown.")
    against, said = _against(one.get("against"), now)
    messages += [said] if said else []
    without = tuple(dict.fromkeys([left_out] if isinstance(left_out, str) else left_out))
    return View(window, one.get("segment") or None, incident, against, without), tuple(messages)


def other_window(window: Window, against: Window | Earlier) -> Window:
    """What a window is held against."""
    if isinstance(against, Window):
        return against
    back = timedelta(days=_DAYS[against]) if against in _DAYS else window.length
    return Window(window.start - back, window.end - back)


def checked(view: View, *, segments: Collection[str], incidents: Collection[int]) -> tuple[View, tuple[str, ...]]:
    """The view without what this deployment does not have."""
    messages = []
    if view.segment is not None and view.segment not in segments:
        messages.append(f"There is no segment {_shown(view.segment)} here, so all traffic is shown.")
        view = replace(view, segment=None)
    if view.incident is not None and view.incident not in incidents:
        messages.append(f"There is no incident {view.incident} here. It may belong to another deployment or database.")
        view = replace(view, incident=None)
    known = tuple(one for one in view.without if one in segments and one != view.segment)
    if view.segment in view.without:
        messages.append(f"The segment {_shown(view.segment or '')} is in view, so it is not left out.")
    unknown = [one for one in view.without if one not in segments]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        messages.append(f"There is no segment {_shown(unknown[0])}{more} here that could be left out.")
    if known and set(known) >= set(segments):
        messages.append("Every segment would be left out, so none is.")
        known = ()
    return replace(view, without=known), tuple(messages)


def build(view: View) -> dict[str, str | list[str]]:
    """The query of an address that shows the same again, whatever the reader's time zone."""
    query: dict[str, str | list[str]] = {}
    if view.window is not None:
        query |= {"from": str(to_ms(view.window.start)), "to": str(to_ms(view.window.end))}
    if view.segment is not None:
        query["segment"] = view.segment
    if view.without:
        query["without"] = list(view.without)
    if view.incident is not None:
        query["incident"] = str(view.incident)
    if isinstance(view.against, Window):
        query["against"] = "-".join(str(to_ms(at)) for at in view.against)
    elif view.against != "before":
        query["against"] = view.against
    return query


def _window(start: str | None, end: str | None, now: datetime) -> tuple[Window | None, str | None]:
    if start is None and end is None:
        return None, None
    if start is None or end is None:
        return None, f"The link names only one end of its window, {_SO}."
    times = {"from": (start, _time(start)), "to": (end, _time(end))}
    for name, (given, at) in times.items():
        if at is None:
            return None, f"The link's {name}={_shown(given)} is no time in milliseconds since 1970, {_SO}."
    first, last = (at for _, at in times.values() if at is not None)
    return _sound("The link's window", Window(first, last), now, _SO)


def _against(given: str | None, now: datetime) -> tuple[Window | Earlier, str | None]:
    for known in get_args(Earlier):
        if given in (known, None):
            return known, None
    ends = [_time(one) for one in (given or "").split("-")]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return "before", f"The link's against={_shown(given or '')} is no window, {_SO_BEFORE}."
    found, said = _sound("The window to compare with", Window(ends[0], ends[1]), now, _SO_BEFORE)
    return found or "before", said


def _sound(what: str, window: Window, now: datetime, so: str) -> tuple[Window | None, str | None]:
    if window.end <= window.start:
        return None, f"{what} ends before it begins, {so}."
    if window.start >= now:
        return None, f"{what} begins in the future, at {window.start:%Y-%m-%d %H:%M} UTC, {so}."
    if window.end > now:
        return Window(window.start, now), f"{what} reaches into the future, so it is shown up to now."
    return Window(window.start, max(window.end, window.start + MINUTE)), None


def _time(given: str) -> datetime | None:
    if not re.fullmatch(r"[0-9]{1,16}", given):
        return None
    try:
        return from_ms(int(given))
    except (OverflowError, ValueError, OSError):
        return None


def _shown(given: str) -> str:
    """A stranger's text, short and without control characters; whoever shows it escapes it."""
    plain = "".join(c if c.isprintable() else "·" for c in given)
    return f"“{plain[:_LONGEST_SHOWN]}{'…' if len(plain) > _LONGEST_SHOWN else ''}”"
