"""Alertmanager, API v2. Routing, grouping and silences are its own; it is told what stands, see `alerts.standing`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipeline.alerts.standing import KEPT_UP, Standing, alerts_of
from pipeline.senders.exchange import exchange

PATH = "/api/v2/alerts"


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """Posts to one server."""

    url: str = field(repr=False)  # with its prefix, without PATH
    timeout_s: float

    def renew(self, standing: Sequence[Standing], now: datetime, keep: timedelta | None = KEPT_UP) -> None:
        """One POST of all that stands, and of what ended within `keep` (None: ever). Raises Undelivered."""
        alerts = alerts_of(standing, now, keep)
        if alerts:
            exchange(
                "POST",
                self.url.rstrip("/") + PATH,
                now=now,
                timeout_s=self.timeout_s,
                content=json.dumps(alerts).encode(),
                headers={"content-type": "application/json"},
            )
