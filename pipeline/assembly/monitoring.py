"""Settings → a running monitor: everything is opened, scheduled, watched and closed here."""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_SCHEDULER_STARTED,
    JobExecutionEvent,
)
from apscheduler.job import Job
from apscheduler.schedulers.blocking import BlockingScheduler
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from pipeline.assembly.delivering import Deliveries
from pipeline.assembly.detecting import Detectors
from pipeline.assembly.handling import alerting_of
from pipeline.assembly.operating import Operations
from pipeline.assembly.parts import open_database_of, owner_name
from pipeline.errors import RefusedError, UsageError
from pipeline.monitor import Limits, Monitor
from pipeline.records import utc_now
from pipeline.settings import Settings
from pipeline.stages.flow import Progress
from pipeline.stages.judging import Judged, Patience
from pipeline.stages.retry import Retry
from pipeline.storage.engine import reading, translated_errors
from pipeline.storage.leadership import make_leader
from pipeline.storage.monitoring import watched_deployments
from pipeline.storage.ticks import TickRetention
from pipeline.telemetry.monitoring import MonitorCollector, Work

_OUTCOMES = {EVENT_JOB_ERROR: "error", EVENT_JOB_MISSED: "missed", EVENT_JOB_MAX_INSTANCES: "overlapped"}


def run_monitor(
    settings: Settings,
    *,
    once: bool,
    now: datetime | None,
    stop: threading.Event,
    report: Callable[[Judged], None] = lambda judged: None,
    say: Callable[[str], None] = lambda text: None,
) -> Work:
    """Watch until told to stop, or `once` until nothing is due; `now` fixes the clock.

    A database that does not answer is waited for, except by a run that is to happen once. That one raises
    RefusedError, after all else is done, where a reference cannot be judged.
    """
    clock = settings.clock.now if now is None else lambda: now
    deliveries = Deliveries(settings, clock)
    listen = "off" if once else settings.http.listen
    with Operations(
        "monitor", name=owner_name(), listen=listen, stop=stop, patient=not once, clock=clock
    ) as operations:
        opening = partial(open_database_of, settings, create=not once)
        engine = operations.patiently("opening the database", opening)
        if engine is None:
            return Work()
        leader = make_leader(engine, f"{owner_name()}:{threading.get_ident()}")
        detectors = Detectors(engine, settings)
        beating = _Beating(operations, engine, settings.deployment, stop)
        monitor = Monitor(
            engine,
            leader,
            detectors,
            _limits(settings),
            alerting_of(settings),
            clock=clock,
            deployment=settings.deployment,
            report=report,
            beat=beating,
            going=lambda: not stop.is_set(),
        )
        try:
            if once:
                with translated_errors(engine.url):
                    _require_deployment(engine, settings.deployment)
                    monitor.run()
                    deliveries.once(engine, monitor.work)
                for name, why in detectors.refused.items():
                    raise RefusedError(f"deployment {name} is not judged: {why}")
            else:
                beating.begin(monitor.work)
                interval = timedelta(seconds=settings.monitor.interval_seconds)
                say(
                    f"watching {settings.deployment or 'every deployment'}, a look every {interval.total_seconds():g} s"
                )
                with deliveries.beside(engine, monitor.work, stop, operations) as nudge:
                    _keep_running(monitor, beating, interval, stop, nudge)
                beating.farewell()
        finally:
            leader.resign()
            engine.dispose()
        return monitor.work


@dataclass
class _Beating:
    """Signs of life between transactions, and patience with the database."""

    operations: Operations
    engine: Engine
    deployment: str | None
    stop: threading.Event

    def __post_init__(self) -> None:
        self.progress = Progress()
        self.retry = Retry(self.engine.url, self.stop, progress=self.progress, beat=self._pulse)
        self._beat: Callable[[], None] = _nothing
        self._work = Work()

    def __call__(self) -> None:
        self._pulse()
        self.progress.scored = self._work.images
        self._beat()

    def begin(self, work: Work) -> None:
        """From now on probes, scrapes and heartbeats tell of this work."""
        self._work = work
        collector = MonitorCollector(
            work,
            lambda: not self.operations.unready(),
            self.operations.pulse,
            lambda: self.progress.database_retries,
        )
        self.operations.attend(self._troubles, self._state, collector)
        self._beat = self.operations.heartbeat(self.engine, self, self.deployment)

    def farewell(self) -> None:
        """An orderly end; a database that does not answer forgets this process by itself."""
        with contextlib.suppress(DBAPIError), self.engine.begin() as conn:
            self.operations.farewell(conn)

    def _pulse(self) -> None:
        self.operations.pulse.beat("monitor")

    def _troubles(self) -> list[str]:
        if self.retry.trouble is not None:
            return [self.retry.trouble]
        if self._work.run_at is None:
            return ["the first run is not over yet"]
        if self._work.deployments:
            return []
        if self.deployment is None:
            return ["nothing has been scored yet, so there is nothing to watch"]
        return [f"there is no deployment {self.deployment} to watch yet"]

    def _state(self) -> Mapping[str, Any]:
        work = self._work
        standby = work.deployments and not work.leading
        return {
            "standby": "another monitor" if standby else None,
            "leading": sorted(work.leading),
            "runs": dict(work.runs),
            "ticks": work.ticks,
            "late_images": work.late_images,
        }


def _keep_running(
    monitor: Monitor, beating: _Beating, interval: timedelta, stop: threading.Event, nudge: Callable[[], None]
) -> None:
    """The scheduled job, in this process alone; one run means everything that is due, so a missed one is no loss."""
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # what goes wrong is said once, below
    scheduler = BlockingScheduler(timezone="UTC")
    failures: list[BaseException] = []

    def run() -> None:
        beating()
        beating.retry(monitor.run, lambda: not stop.is_set(), asks=("database",))
        beating()
        nudge()

    def hear(event: JobExecutionEvent) -> None:
        monitor.work.runs[_OUTCOMES[event.code]] += 1
        if event.code == EVENT_JOB_ERROR:  # nothing that waiting would mend
            failures.append(event.exception)
            stop.set()

    def watch() -> None:
        while not stop.wait(interval.total_seconds()):
            wake(job, utc_now(), interval)
        scheduler.shutdown(wait=True)

    watching = threading.Thread(target=watch, name="end", daemon=True)
    scheduler.add_listener(hear, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
    scheduler.add_listener(lambda event: watching.start(), EVENT_SCHEDULER_STARTED)
    job = scheduler.add_job(
        run,
        "interval",
        seconds=interval.total_seconds(),
        next_run_time=utc_now(),
        coalesce=True,
        misfire_grace_time=None,  # the default of 1 s lets a busy machine skip runs
        max_instances=1,
    )
    scheduler.start()
    if failures:
        raise failures[0]


def wake(job: Job, now: datetime, interval: timedelta) -> None:
    """Run a job whose time lies far ahead: the clock has stepped back, and the scheduler would wait for it."""
    if job.next_run_time is not None and job.next_run_time > now + 2 * interval:
        job.modify(next_run_time=now)


def _require_deployment(engine: Engine, name: str | None) -> None:
    with reading(engine).connect() as conn:
        if name is not None and not watched_deployments(conn, name):
            known = ", ".join(deployment.name for deployment in watched_deployments(conn, None))
            raise UsageError(f"there is no deployment {name!r}; known: {known or 'none, a worker makes it'}")


def _limits(settings: Settings) -> Limits:
    monitor, ticks = settings.monitor, settings.ticks
    patience = Patience(
        lateness=timedelta(seconds=monitor.lateness_seconds),
        idle=settings.clock.lasting(monitor.idle_seconds),
        revise=timedelta(hours=monitor.revise_hours),
        pace=settings.clock.factor,
    )
    days = (ticks.minute_days, ticks.five_minute_days, ticks.hour_days, ticks.day_days)
    return Limits(patience, TickRetention(*(timedelta(days=kept) for kept in days)), monitor.max_segments)


def _nothing() -> None:
    """Before there is work to tell of."""
