"""Composition: the monitor's deliveries, in a thread beside its runs or once behind one."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Engine

from pipeline.alerts.standing import RENEW_AFTER
from pipeline.assembly.operating import Operations
from pipeline.assembly.telling import make_channels, make_deadman
from pipeline.settings import Settings
from pipeline.stages.delivering import Delivering
from pipeline.stages.flow import Progress
from pipeline.stages.retry import Retry
from pipeline.telemetry.monitoring import Work
from pipeline.telemetry.notifications import NotificationCollector

_GRACE_S = 5.0  # at the end, for what is under way


class Deliveries:
    """Who is told by one monitor. Made before anything else, so that wrong settings are refused at the start."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        """Raises UsageError for channels that cannot be."""
        self._channels = make_channels(settings, clock)
        self._deadman = make_deadman(settings.deadman, clock)
        self._clock = clock
        self._deployment = settings.deployment
        self._renew_every = settings.clock.factor * min(
            timedelta(seconds=settings.monitor.interval_seconds), RENEW_AFTER
        )

    def once(self, engine: Engine, work: Work) -> None:
        """Try all that is due once, after a run. Raises DBAPIError."""
        if self._channels or self._deadman:
            self._delivering(engine, work, None).once()

    @contextmanager
    def beside(
        self, engine: Engine, work: Work, stop: threading.Event, operations: Operations
    ) -> Iterator[Callable[[], None]]:
        """Deliver in a thread of its own until `stop`; gives what to call when there may be something new.

        What the thread cannot answer sets `stop`, and is raised at the end.
        """
        if not (self._channels or self._deadman):
            yield lambda: None
            return
        delivering = self._delivering(engine, work, Retry(engine.url, stop, progress=Progress()))
        operations.registry.register(NotificationCollector(delivering.told))
        failures: list[BaseException] = []

        def deliver() -> None:
            try:
                delivering.run(stop, grace_s=_GRACE_S, beat=lambda: operations.pulse.beat("delivery"))
            except BaseException as error:
                failures.append(error)
                stop.set()

        thread = threading.Thread(target=deliver, name="delivery", daemon=True)
        thread.start()
        try:
            yield delivering.nudge
        finally:
            stop.set()
            delivering.nudge()
            thread.join(2 * _GRACE_S)
        if failures:
            raise failures[0]

    def _delivering(self, engine: Engine, work: Work, retry: Retry | None) -> Delivering:
        return Delivering(
            engine,
            self._channels,
            deadman=self._deadman,
            retry=retry,
            clock=self._clock,
            uniform=random.uniform,
            renew_every=self._renew_every,
            # One that stands by must not cover for a leader that does nothing.
            succeeded=lambda: work.runs["ok"] if work.leading or not work.deployments else None,
            deployment=self._deployment,
        )
