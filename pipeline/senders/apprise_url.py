"""Slack, mail and a hundred other channels through Apprise, an optional extra. Its addresses are secrets throughout."""

import logging

from apprise import Apprise, NotifyFormat, NotifyType

from pipeline.alerts.delivery import Undelivered
from pipeline.alerts.letter import body, title
from pipeline.alerts.notification import Notification
from pipeline.alerts.plain import neutral, plain
from pipeline.errors import UsageError

_LOOKS = {"critical": NotifyType.FAILURE, "error": NotifyType.FAILURE, "warning": NotifyType.WARNING}
_LONGEST = 1_900  # Discord takes no more
_LONGEST_TITLE = 250


class AppriseUrl:
    """Tells all services that one Apprise address names; where one of them fails, all are told again."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Raises UsageError, without the address, where Apprise does not understand it."""
        logging.getLogger("apprise").propagate = False  # there are addresses in it; what matters is in the result
        self._services = Apprise()
        self._timeout_s = timeout_s
        if not self._services.add(url):
            raise UsageError("Apprise does not understand the address; see the page of the service in its manual")

    def send(self, notification: Notification) -> None:
        """One message. Raises Undelivered."""
        looks = _LOOKS.get(notification.severity, NotifyType.INFO)
        result = self._services.notify(
            body=body(notification)[:_LONGEST] or "-",
            title=neutral(plain(title(notification), _LONGEST_TITLE)),
            notify_type=NotifyType.SUCCESS if notification.action == "resolve" else looks,
            body_format=NotifyFormat.TEXT,
            timeout=self._timeout_s,
            log_level=logging.WARNING,
        )
        if not result:
            said = "; ".join(entry.message for entry in result.logs())
            raise Undelivered(said or f"Apprise could not tell it ({result.status.name.lower()})")
