"""What is said again and again without a notification: what stands, and that the monitor works."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pipeline.alerts.delivery import Undelivered
from pipeline.alerts.standing import Standing
from pipeline.senders.sender import Channel, Renewer
from pipeline.stages.lanes import Attempt, Lanes
from pipeline.stages.told import Told

logger = logging.getLogger(__name__)

_PING = "deadman"


@dataclass(frozen=True, slots=True)
class Deadman:
    """An address that expects to hear of a monitor whose runs succeed."""

    interval: timedelta
    ping: Callable[[], None]  # raises as a sender does
    hide: Callable[[str], str]


class Upkeep:
    """Renews what was last known to stand, also while the database does not answer; pings."""

    def __init__(
        self,
        channels: Sequence[Channel],
        lanes: Lanes,
        told: Told,
        *,
        renew_every: timedelta,
        deadman: Deadman | None,
        succeeded: Callable[[], int | None],
    ) -> None:
        self._channels = [channel for channel in channels if isinstance(channel.teller, Renewer)]
        self._lanes = lanes
        self._told = told
        self._renew_every = renew_every
        self._deadman = deadman
        self._succeeded = succeeded  # runs of the monitor that have ended well; None: it stands by
        self._standing: dict[str, list[Standing]] = {}
        self._done_at: dict[str, datetime] = {}  # by lane
        self._pinged_after: int | None = 0
        self._trouble: dict[str, str] = {}

    def learn(self, now: datetime, read: Callable[[Channel], list[Standing]]) -> None:
        """Look up what stands, for the channels on which it is to be told now."""
        for channel in self._channels:
            if self._is_time(channel.name, self._renew_every, now):
                self._standing[channel.name] = read(channel)

    def begin(self, now: datetime) -> None:
        """Say what it is time for."""
        for channel in self._channels:
            if self._is_time(channel.name, self._renew_every, now):
                self._done_at[channel.name] = now
                self._renew(channel, now)
        deadman, succeeded = self._deadman, self._succeeded()
        if deadman is None or succeeded in (None, self._pinged_after):  # no run has ended well since the last one
            return
        if self._is_time(_PING, deadman.interval, now):
            self._done_at[_PING], self._pinged_after = now, succeeded
            self._lanes.start(Attempt(_PING, deadman.ping, deadman.hide, self._pinged))

    def _is_time(self, lane: str, every: timedelta, now: datetime) -> bool:
        last = self._done_at.get(lane)
        return lane not in self._lanes.busy and (last is None or not last <= now < last + every)

    def _renew(self, channel: Channel, now: datetime) -> None:
        known = self._standing.get(channel.name)
        if known and isinstance(channel.teller, Renewer):
            say = partial(channel.teller.renew, known, now)
            self._lanes.start(Attempt(channel.name, say, channel.hide, partial(self._renewed, channel)))

    def _renewed(self, channel: Channel, failure: Undelivered | None) -> None:
        self._told.renewals[channel.name, "ok" if failure is None else "failed"] += 1
        self._note(f"channel {channel.name}: {channel.where}", "what stands was not renewed", failure)

    def _pinged(self, failure: Undelivered | None) -> None:
        self._told.pings["ok" if failure is None else "failed"] += 1
        self._note("deadman", "the ping was not taken", failure)

    def _note(self, where: str, what: str, failure: Undelivered | None) -> None:
        """Say a trouble when it begins, changes and ends; what fails here is done again soon anyway."""
        known = self._trouble.pop(where, None)
        if failure is not None:
            self._trouble[where] = str(failure)
            if str(failure) != known:
                logger.warning("%s: %s: %s; trying again", where, what, failure)
        elif known is not None:
            logger.info("%s answers again", where)
