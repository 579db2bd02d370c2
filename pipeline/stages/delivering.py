"""Tells what is in the outbox: the monitor's stage after the alerts, in a thread of its own.

One thread has the database. Each attempt runs outside of any transaction, on the lane of its channel, so that a
slow or dead channel holds neither the others nor the detector. An attempt that is cut off is made again when its
claim has run out, with the same key.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine

from pipeline.alerts.delivery import GIVE_UP_AFTER, GiveUp, Undelivered, after_failure
from pipeline.alerts.standing import KEPT_UP, Standing
from pipeline.senders.sender import Channel, Renewer
from pipeline.stages.lanes import Attempt, Lanes
from pipeline.stages.retry import Retry
from pipeline.stages.told import Told
from pipeline.stages.upkeep import Deadman, Upkeep
from pipeline.storage import outbox
from pipeline.storage.engine import reading

logger = logging.getLogger(__name__)

_LOOK_S = 2.0  # people's commands, too, write what is to be told
T = TypeVar("T")


class Delivering:
    """Delivers for one monitor; all methods but `nudge` belong to one thread.

    Without `retry` a database that does not answer is an error. `uniform` draws from an interval.
    """

    def __init__(
        self,
        engine: Engine,
        channels: Sequence[Channel],
        *,
        retry: Retry | None,
        clock: Callable[[], datetime],
        uniform: Callable[[float, float], float],
        renew_every: timedelta,
        deadman: Deadman | None,
        succeeded: Callable[[], int | None],
        deployment: str | None = None,
    ) -> None:
        self._engine = engine
        self._channels = {channel.name: channel for channel in channels}
        self._retry = retry
        self._clock = clock
        self._uniform = uniform
        self._deployment = deployment
        self._lanes = Lanes()
        self._unstored: list[Callable[[Connection], None]] = []  # how attempts went, while it cannot be stored
        self.told = Told()
        self._upkeep = Upkeep(
            channels, self._lanes, self.told, renew_every=renew_every, deadman=deadman, succeeded=succeeded
        )

    def run(self, stop: threading.Event, *, grace_s: float, beat: Callable[[], None] = lambda: None) -> None:
        """Deliver until told to stop; then wait for what is under way, not longer than `grace_s`."""
        while not stop.is_set():
            beat()
            self._begin_all(self._clock())
            self._lanes.hear(_LOOK_S)
        for _ in range(int(grace_s / 0.1)):
            if self._lanes.busy:
                self._lanes.hear(0.1)

    def once(self) -> None:
        """Try all that is due now once, and wait for it; time stands still meanwhile, so that it ends."""
        began = self._clock()
        while self._begin_all(began) or self._lanes.busy:
            if self._lanes.busy:  # else another monitor has taken the turns that were seen
                self._lanes.hear(None)

    def nudge(self) -> None:
        """There may be something new to tell."""
        self._lanes.nudge()

    def _begin_all(self, now: datetime) -> int:
        """Begin an attempt wherever the lane is free and there is something to tell; how many turns were seen."""
        turns = self._with_database(partial(self._begin_due, now))
        if turns is None:
            self.told.waiting = {}
        self._upkeep.begin(now)
        return turns or 0

    def _with_database(self, attempt: Callable[[], T]) -> T | None:
        """Try once; None where the database does not answer."""
        return attempt() if self._retry is None else self._retry(attempt, asks=("database",))

    def _begin_due(self, now: datetime) -> int:
        self._store_all()
        free = [name for name in self._channels if name not in self._lanes.busy]
        with reading(self._engine).connect() as conn:
            turns = outbox.due(conn, free, now=now, deployment=self._deployment)
            waiting = outbox.waiting(conn, self._deployment)
        self.told.waiting = dict.fromkeys(self._channels, 0) | {name: w.count for name, w in waiting.items()}
        self._give_up_unknown(waiting, now)
        for turn in turns:
            self._begin(turn, self._channels[turn.channel], now)
        self._upkeep.learn(now, partial(self._read_standing, ended_after=now - KEPT_UP))
        return len(turns)

    def _begin(self, turn: outbox.Due, channel: Channel, now: datetime) -> None:
        with self._engine.begin() as conn:
            if not outbox.claim(conn, turn, until=now + channel.lease):
                return  # another monitor tells it
        if isinstance(channel.teller, Renewer):
            known = self._read_standing(channel, incident_id=turn.notification.incident_id)
            say = partial(channel.teller.renew, known, now, None)
        else:
            say = partial(channel.teller.send, turn.notification)
        self._lanes.start(Attempt(channel.name, say, channel.hide, partial(self._settle, turn, channel)))

    def _settle(self, turn: outbox.Due, channel: Channel, failure: Undelivered | None) -> None:
        """Say how an attempt went, and store it."""
        now, attempts, created_at = self._clock(), turn.attempts + 1, turn.notification.created_at
        what = f"channel {channel.name}: notification {turn.id} of incident {turn.notification.incident_id}"
        told = {"channel": channel.name, "attempts": attempts}
        change: Callable[[Connection], None]
        if failure is None:
            outcome = "delivered"
            logger.info("%s was delivered", what, extra=told)
            change = partial(outbox.delivered, row_id=turn.id, at=now)
        else:
            mine = partial(outbox.failed, row_id=turn.id, attempts=attempts, error=str(failure))
            step = after_failure(failure, attempts=attempts, created_at=created_at, now=now, uniform=self._uniform)
            why = f"{channel.where}: {failure}"
            if isinstance(step, GiveUp):
                outcome = "given_up"
                logger.error("%s is given up after attempt %d: %s", what, attempts, why, extra=told)
                change = partial(mine, given_up_at=now)
            else:
                outcome, wait_s = "failed", (step.at - now).total_seconds()
                logger.warning("%s was not delivered: %s; next attempt in %.0f s", what, why, wait_s, extra=told)
                change = partial(mine, next_try_at=step.at)
        self.told.outcomes[channel.name, outcome] += 1
        self._unstored.append(change)
        self._with_database(self._store_all)

    def _store_all(self) -> None:
        """Each in a transaction of its own. What is lost with the process is told again, with the same key."""
        while self._unstored:
            with self._engine.begin() as conn:
                self._unstored[0](conn)
            del self._unstored[0]

    def _give_up_unknown(self, waiting: Mapping[str, outbox.Waiting], now: datetime) -> None:
        before, known = now - GIVE_UP_AFTER, list(self._channels)
        if any(w.oldest < before for name, w in waiting.items() if name not in self._channels):
            with self._engine.begin() as conn:
                lost = outbox.give_up_unknown(conn, known, before=before, at=now, deployment=self._deployment)
            logger.error("%d notifications are given up: the settings do not know their channels", lost)

    def _read_standing(
        self, channel: Channel, *, ended_after: datetime | None = None, incident_id: int | None = None
    ) -> list[Standing]:
        with reading(self._engine).connect() as conn:
            return outbox.standing(
                conn, channel.name, ended_after=ended_after, incident_id=incident_id, deployment=self._deployment
            )
