"""The words of a notification, for channels that show text: a title, and a body of plain lines. From its payload alone.

What is missing, or of another shape than `webhook_v1.schema.json` says, is left out or said as it is: a
notification with a gap is worth more than none.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.alerts.notification import Notification
from pipeline.alerts.plain import neutral, plain

#: Members of a payload that say, where they are true, that nothing has happened.
MADE_UP = ("test", "drill")

_LONGEST = 400
_SHARES_SHOWN = 4
_CAUSES_SHOWN = 2
_DIGEST_SHOWN = 15
_TOLD = {"resolve": "RESOLVED", "acknowledge": "TAKEN", "info": "INFO"}


def title(notification: Notification) -> str:
    """One line: how bad, where, what."""
    payload = notification.payload
    if isinstance(digest := payload.get("digest"), Mapping):
        return plain(in_words(digest.get("title")), _LONGEST)
    head = next(
        (f"{name.upper()} of oodwatch, nothing is wrong: " for name in MADE_UP if payload.get(name) is True), ""
    )
    told = _TOLD.get(notification.action, notification.severity.upper())
    value, normal = _amount(payload, "value"), _amount(payload, "normal")
    parts = [
        f"{head}{told} {notification.text('deployment')}",
        " -> ".join(filter(None, (notification.text("from"), notification.text("to")))),
        notification.text("segment") and f"segment {notification.text('segment')}",
        value and f"{value}, normally {normal}" if normal else value,
    ]
    return plain(" · ".join(filter(None, parts)), _LONGEST)


def body(notification: Notification) -> str:
    """Lines for a person; strings of others cannot act in it, see `neutral`."""
    if isinstance(digest := notification.payload.get("digest"), Mapping):
        return "\n".join(neutral(plain(in_words(line), _LONGEST)) for line in _several(digest, "lines", _DIGEST_SHOWN))
    lines = [neutral(plain(line, _LONGEST)) for line in _lines(notification)]
    if notification.incident_id and not any(notification.payload.get(name) is True for name in MADE_UP):
        lines.append(f"more: oodwatch why {notification.incident_id}")
    return "\n".join([*lines, *(f"{name}: {link}" for name, link in notification.links.items())])


def _lines(notification: Notification) -> Iterator[str]:
    payload = notification.payload
    if who := " ".join(filter(None, (notification.text("who"), notification.text("why")))):
        yield f"by: {who}"
    said = {
        "since": in_words(payload.get("onset")),
        "segment": in_words(payload.get("segment")),
        "now": _now(payload),
        "normally": _amount(payload, "normal"),
        "where": "; ".join(map(_where, _several(payload, "attribution", _SHARES_SHOWN))),
        "likely cause": "; ".join(map(_cause, _several(payload, "cause", _CAUSES_SHOWN))),
        "does it matter": _matters(payload.get("matters")),
        "can it be trusted": _trust(payload.get("trust")),
        "model": in_words(payload.get("model")),
        "reference": in_words(payload.get("reference")),
    }
    yield from (f"{label}: {words}" for label, words in said.items() if words)


def in_words(value: object) -> str:
    """Any JSON value in one line; nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    if isinstance(value, Mapping):
        known = {name: in_words(part) for name, part in value.items()}
        return ", ".join(f"{name} {words}" for name, words in known.items() if words)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(in_words, value))
    return str(value)


def share(value: object) -> str:
    """A share as a percentage; nothing for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return ""
    return f"{100 * value:.3g} %"


def _amount(payload: Mapping[str, Any], name: str) -> str:
    """A share in percent, or an amount in its unit."""
    unit, words = in_words(payload.get("unit")), in_words(payload.get(name))
    if not unit or unit.startswith("share"):
        return share(payload.get(name)) or words
    return words and f"{words} {unit}"


def _now(payload: Mapping[str, Any]) -> str:
    interval = payload.get("interval")
    low, high = (share(interval.get(end)) for end in ("low", "high")) if isinstance(interval, Mapping) else ("", "")
    between = f"95 %: {low} to {high}" if low and high else ""
    counted = in_words(payload.get("n")) and f"of {in_words(payload.get('n'))} images"
    value = _amount(payload, "value")
    return value and ", ".join(filter(None, (value, between, counted)))


def _several(payload: Mapping[str, Any], name: str, most: int) -> list[Any]:
    found = payload.get(name)
    return found[:most] if isinstance(found, list) else [] if found is None else [found]


def _where(one: object) -> str:
    if not isinstance(one, Mapping):
        return in_words(one)
    what = next((kind for kind in ("segment", "class") if one.get(kind) is not None), None)
    part = share(one.get("share"))
    return f"{part} {what} {in_words(one[what])}" if what and part else in_words(one)


def _cause(one: object) -> str:
    if not isinstance(one, Mapping):
        return in_words(one)
    name, evidence = in_words(one.get("title") or one.get("kind")), in_words(one.get("evidence"))
    return f"{name} ({evidence})" if evidence else name


def _matters(found: object) -> str:
    most = found.get("accuracy_at_most") if isinstance(found, Mapping) else None
    part = share(most.get("share")) if isinstance(most, Mapping) else ""
    return f"accuracy at most {part}" if part else in_words(found)


def _trust(found: object) -> str:
    reservations = found.get("reservations") if isinstance(found, Mapping) else None
    return in_words(reservations) or in_words(found)
