"""PagerDuty, Events API v2: trigger, acknowledge and resolve by one dedup_key for each incident."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.alerts.letter import title
from pipeline.alerts.notification import Notification
from pipeline.alerts.plain import bounded, plain
from pipeline.senders.exchange import exchange

URL = "https://events.pagerduty.com/v2/enqueue"
_LONGEST_SUMMARY = 1024


@dataclass(frozen=True, slots=True)
class PagerDuty:
    """Posts to one integration."""

    url: str = field(repr=False)
    routing_key: str = field(repr=False)
    timeout_s: float
    clock: Callable[[], datetime]

    def send(self, notification: Notification) -> None:
        """One event. There is none that would only inform: as a trigger it would page. Raises Undelivered."""
        if notification.action == "info":
            return
        body = json.dumps({"routing_key": self.routing_key, **event_of(notification)}).encode()
        headers = {"content-type": "application/json"}
        exchange("POST", self.url, now=self.clock(), timeout_s=self.timeout_s, content=body, headers=headers)


def event_of(notification: Notification) -> dict[str, Any]:
    """The event without the routing key. The details are the payload, bounded."""
    event: dict[str, Any] = {"event_action": notification.action, "dedup_key": notification.dedup_key}
    if notification.action != "trigger":
        return event
    payload = {
        "summary": plain(title(notification), _LONGEST_SUMMARY),
        "source": notification.text("deployment") or "oodwatch",
        "severity": notification.severity,
        "timestamp": notification.created_at.isoformat(),
        "component": notification.text("model"),
        "group": notification.text("segment"),
        "class": notification.text("to"),
        "custom_details": bounded(notification.payload),
    }
    links = [{"href": link, "text": name} for name, link in notification.links.items()]
    return {
        **event,
        "payload": {name: value for name, value in payload.items() if value != ""},
        "client": "oodwatch",
        **({"client_url": notification.link} if notification.link else {}),
        **({"links": links} if links else {}),
    }
