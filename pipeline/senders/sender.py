"""What a channel is to those who deliver."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from pipeline.alerts.notification import Notification
from pipeline.alerts.standing import Standing


class Sender(Protocol):
    """Tells events one by one."""

    def send(self, notification: Notification) -> None:
        """Return when the receiver has it. Raises Undelivered, or anything else, where it has not."""
        ...


@runtime_checkable
class Renewer(Protocol):
    """Tells what is so now, again and again: for a receiver that forgets what it is not told."""

    def renew(self, standing: Sequence[Standing], now: datetime, keep: timedelta | None = ...) -> None:
        """Return when the receiver has it, with what ended within `keep` (None: ever). Raises as `send`."""
        ...


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to people, by the name that the settings give it."""

    name: str
    kind: str
    teller: Sender | Renewer
    where: str  # the receiver, as far as that is no secret
    lease: timedelta  # longer than any attempt: only then another process may try the same notification
    hide: Callable[[str], str]  # takes the channel's secrets out of a text
