"""What is told on one channel of one event. The answer itself is the payload, of `webhook_v1.schema.json`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.alerts.incident import Action
from pipeline.alerts.plain import plain

_LONGEST_KEY = 255  # of PagerDuty
_LONGEST_TEXT = 400


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
        """A field that is a string, as one plain line; empty where it is none."""
        value = self.payload.get(name)
        return plain(value, _LONGEST_TEXT) if isinstance(value, str) else ""


def is_link(link: object) -> bool:
    """An address that may stand in a text as it is."""
    return isinstance(link, str) and re.fullmatch(r"https?://[^\s<>\"'\x00-\x1f]{1,2000}", link) is not None
