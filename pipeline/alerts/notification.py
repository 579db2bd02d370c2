"""What is told on one channel of one event, and its words for channels that show text.

The answer itself is the payload, webhook v1 (`webhook_v1.schema.json`). What is read from it here may be missing
or of another shape: a notification with a gap is worth more than none.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.alerts.incident import Action
from pipeline.alerts.plain import neutral, plain

_LONGEST_KEY = 255  # of PagerDuty
_LONGEST_LINE = 400

#: Of the payload's parts, what a person is told about, in this order.
_LINES = {
    "segment": "segment",
    "onset": "since",
    "value": "flagged now",
    "normal": "normal",
    "n": "images",
    "n_effective": "effective images",
    "attribution": "where",
    "cause": "cause",
    "matters": "does it matter",
    "trust": "can this be trusted",
    "model": "model",
    "reference": "reference",
}
_SHARES = frozenset({"share", "low", "high", "value", "normal", "warning", "critical"})
_SPEAK_FOR_THEMSELVES = frozenset({"segment", "class", "kind", "name"})


@dataclass(frozen=True, slots=True)
class Notification:
    """One event of an incident, to be told on one channel. Repeated, it has the same key."""

    event_id: int
    incident_id: int
    action: Action
    payload: Mapping[str, Any]
    created_at: datetime  # when the event happened

    @property
    def key(self) -> str:
        """The idempotency key. The time makes it one of this database: another counts its events from 1, too."""
        return f"{self.created_at:%Y%m%dT%H%M%S.%fZ}-{self.event_id}"

    @property
    def dedup_key(self) -> str:
        """The same for all that is told of an incident, at most 255 characters."""
        return f"oodwatch/{self.text('deployment')[: _LONGEST_KEY - 40]}/{self.incident_id}"

    @property
    def severity(self) -> str:
        """critical, warning, info or error."""
        known = self.text("severity")
        return known if known in ("critical", "warning", "error") else "info"

    @property
    def links(self) -> dict[str, str]:
        """Addresses by what they show; nothing that is not http."""
        found = self.payload.get("links")
        known = found.items() if isinstance(found, Mapping) else ()
        return {plain(str(name), 60): link for name, link in known if is_link(link)}

    @property
    def link(self) -> str | None:
        """The one that a title leads to."""
        return next(iter(self.links.values()), None)

    def text(self, name: str) -> str:
        """A field as one plain line; empty where it is missing."""
        value = self.payload.get(name)
        return "" if value is None else plain(in_words(value), _LONGEST_LINE)

    @property
    def title(self) -> str:
        """One line: how bad, where, what."""
        told = {
            "resolve": "RESOLVED",
            "acknowledge": "ACKNOWLEDGED",
            "info": "INFO",
            "trigger": self.severity.upper(),
        }[self.action]
        head = "TEST of oodwatch, nothing is wrong: " if self.payload.get("test") is True else ""
        value, normal = share(self.payload.get("value")), share(self.payload.get("normal"))
        parts = [
            f"{head}{told} {self.text('deployment')}",
            " -> ".join(filter(None, (self.text("from"), self.text("to")))),
            self.text("segment") and f"segment {self.text('segment')}",
            value and f"{value} flagged" + (f", normal {normal}" if normal else ""),
        ]
        return " · ".join(filter(None, parts))

    @property
    def body(self) -> str:
        """Lines for a person, plain text; strings of others cannot act in it, see `neutral`."""
        said = {label: share(self.payload.get(name)) or self.text(name) for name, label in _LINES.items()}
        lines = [f"{label}: {neutral(words)}" for label, words in said.items() if words]
        lines += [f"incident {self.incident_id}: oodwatch why {self.incident_id}"] if self.incident_id else []
        lines += [f"{name}: {link}" for name, link in self.links.items()]
        return "\n".join(lines)


def in_words(value: object) -> str:
    """Any JSON value in one line: shares in percent, parts of a list apart by semicolons."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    if isinstance(value, Mapping):
        return ", ".join(_pair(str(name), part) for name, part in value.items() if part is not None)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "; ".join(in_words(part) for part in value)
    return str(value)


def _pair(name: str, part: object) -> str:
    words = (share(part) if name in _SHARES else "") or in_words(part)
    return words if name in _SPEAK_FOR_THEMSELVES else f"{name} {words}"


def share(value: object) -> str:
    """A share as a percentage, also where it stands in an object with its interval; empty for anything else."""
    if isinstance(value, Mapping):
        value = value.get("share", value.get("value"))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return ""
    return f"{100 * value:.3g} %"


def is_link(link: object) -> bool:
    """An address that may stand in a text as it is."""
    return isinstance(link, str) and re.fullmatch(r"https?://[^\s<>\"'\x00-\x1f]{1,2000}", link) is not None
