"""Standard output: one JSON line for each notification, for whatever collects the process's output."""

import json
import sys
from dataclasses import dataclass

from pipeline.alerts.notification import Notification


@dataclass(frozen=True, slots=True)
class Stdout:
    """Writes to whatever stdout is now."""

    channel: str

    def send(self, notification: Notification) -> None:
        """One line. Raises OSError where stdout is full or gone."""
        line = {"channel": self.channel, **notification.payload, "action": notification.action}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()
