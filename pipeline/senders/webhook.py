"""A webhook of the user's own: the payload as JSON, signed, with a key that says whether it was seen before.

    POST <url>
    content-type: application/json
    idempotency-key: <the same for every repetition>
    oodwatch-signature: t=<seconds since 1970>,v1=<hex of HMAC-SHA256(key, "<t>.<body>")>

The body is the payload with `action`: trigger, acknowledge, resolve, info.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.alerts.notification import Notification
from pipeline.senders.exchange import exchange


@dataclass(frozen=True, slots=True)
class Webhook:
    """Posts to one address."""

    url: str = field(repr=False)
    key: bytes | None = field(repr=False)  # None: not signed
    timeout_s: float
    clock: Callable[[], datetime]

    def send(self, notification: Notification) -> None:
        """One POST. Raises Undelivered."""
        now = self.clock()
        body = json.dumps({**notification.payload, "action": notification.action}, ensure_ascii=False).encode()
        headers = {"content-type": "application/json", "idempotency-key": notification.key}
        if self.key is not None:
            headers["oodwatch-signature"] = signature(self.key, body, now)
        exchange("POST", self.url, now=now, timeout_s=self.timeout_s, content=body, headers=headers)


def signature(key: bytes, body: bytes, at: datetime) -> str:
    """The header's value. A receiver computes it anew over the raw body, and refuses times that lie far off."""
    seconds = int(at.timestamp())
    digest = hmac.new(key, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"
