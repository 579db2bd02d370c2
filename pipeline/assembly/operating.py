"""What every long-running process has besides its work: probes, metrics, a heartbeat, patience at the start."""

import logging
import platform
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from prometheus_client import CollectorRegistry, Info, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from pipeline.errors import EnvironmentFault
from pipeline.records import utc_now
from pipeline.stages.flow import Progress
from pipeline.stages.retry import Retry
from pipeline.storage.engine import is_transient, revision_problem, stored_revision
from pipeline.storage.processes import Process, beat, forget_silent, remove
from pipeline.telemetry.health import Pulse, WorkerState, notes, unready
from pipeline.telemetry.http import Endpoints, Server
from pipeline.telemetry.metrics import StateCollector
from pipeline.telemetry.probe import Address

logger = logging.getLogger(__name__)

#: Silence after which a thread is taken for stuck. The writer beats while it tries a database again.
SILENCE_LIMITS_S = {"poll": 60.0, "model": 600.0, "writer": 600.0, "monitor": 600.0, "delivery": 600.0}
HEARTBEAT_INTERVAL_S = 10.0
FORGOTTEN_AFTER = timedelta(days=1)

T = TypeVar("T")


class Working(Protocol):
    """What beats: how much it has done, and how it waits for a database."""

    @property
    def progress(self) -> Progress:
        """What has been stored so far."""
        ...

    @property
    def retry(self) -> Retry:
        """Tries again while the database does not answer."""
        ...


class Operations:
    """Health, metrics and heartbeats of one process, from its first second to its last.

    Until `watch` or `attend` give it work to look at, it is not ready, and the phase says why.
    """

    def __init__(
        self,
        role: str,
        *,
        name: str,
        listen: str,
        stop: threading.Event,
        patient: bool,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._role = role
        self._patient = patient
        self._name = name
        self._stop = stop
        self._clock = clock
        self._started_at = clock()
        self._phase = "starting"
        self._troubles: Callable[[], list[str]] | None = None
        self._notes: Callable[[], list[str]] = list
        self._work: Callable[[], Mapping[str, Any]] = dict
        self._revision_problem: str | None = None
        self.registry = CollectorRegistry()
        self.pulse = Pulse(SILENCE_LIMITS_S, clock=time.monotonic)
        self.versions = {"version": version("oodwatch"), "python": platform.python_version(), "role": role}
        disable_created_metrics()  # type: ignore[no-untyped-call]
        Info("oodwatch_build", "What runs here.", registry=self.registry).info(self.versions)
        ProcessCollector("oodwatch", registry=self.registry)
        address = Address.parse(listen)
        endpoints = Endpoints(self.silent, self.unready, self.registry, self.versions, self.notes)
        self._server = None if address is None else Server(address, endpoints)
        if self._server is not None:
            logger.info("health and metrics at %s", self._server.url)

    def __enter__(self) -> Self:
        """Probes are answered from construction on."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.close()

    def silent(self) -> list[str]:
        """Threads that show no life; dependencies do not count, for a restart would not mend them."""
        return [str(silence) for silence in self.pulse.silent()]

    def unready(self) -> list[str]:
        """Why records do not move; nothing: they do, or would."""
        if self._stop.is_set():
            return ["told to stop: what is in flight is being finished"]
        if self._troubles is None:
            return [self._phase]
        problem = [] if self._revision_problem is None else [self._revision_problem]
        return problem + self._troubles()

    def notes(self) -> list[str]:
        """What a person should know of a process that is ready."""
        return self._notes()

    def enter(self, phase: str) -> None:
        """Say what is being done before there is a worker to look at."""
        self._phase = phase

    def patiently(self, phase: str, attempt: Callable[[], T]) -> T | None:
        """Try until the database answers; None when told to stop.

        Raises what waiting cannot mend, and everything where the process is not to be patient.
        """
        pause_s = 0.2
        self._phase = phase
        while not self._stop.is_set():
            try:
                return attempt()
            except EnvironmentFault as error:
                cause = error.__cause__
                if not (self._patient and isinstance(cause, DBAPIError) and is_transient(cause)):
                    raise
                if (said := f"{phase}: {error}") != self._phase:  # once, not at every attempt of an hour
                    self._phase = said
                    logger.warning("%s; trying again", error)
            self._stop.wait(pause_s * random.random())
            pause_s = min(pause_s * 2, 30.0)
        return None

    def watch(self, state: Callable[[], WorkerState]) -> None:
        """From now on the worker's own state says whether it is ready."""
        collector = StateCollector(state, lambda: not self.unready(), self.pulse)
        self._notes = lambda: notes(state())
        self.attend(lambda: unready(state()), lambda: _work(state()), collector)

    def attend(
        self, troubles: Callable[[], list[str]], work: Callable[[], Mapping[str, Any]], collector: Collector
    ) -> None:
        """From now on `troubles` says why it is not ready, and `work` what its heartbeats tell."""
        self.registry.register(collector)
        self._work = work
        self._troubles = troubles

    def heartbeat(self, engine: Engine, writer: Working, deployment: str | None) -> "Heartbeat":
        """What the thread that has the database calls between transactions."""
        describe = partial(self._process, deployment)
        return Heartbeat(engine, writer, describe, self.unready, self._note_revision, clock=self._clock)

    def farewell(self, conn: Connection) -> None:
        """An orderly end: the process's row goes."""
        remove(conn, self._name)

    def _note_revision(self, problem: str | None) -> None:
        if problem is not None and problem != self._revision_problem:
            logger.error(problem)
        self._revision_problem = problem

    def _process(self, deployment: str | None, rate: float, now: datetime) -> Process:
        reasons = self.unready()
        state = {"ready": not reasons, "reasons": reasons, "images_per_second": rate, **self._work()}
        return Process(self._name, self._role, deployment, self.versions["version"], self._started_at, now, state)


class Heartbeat:
    """Renews the process's row every 10 s; called by the writer thread, which alone has the database.

    The first beat waits until the process is ready, or for 10 s: what it says stands for as long.
    """

    def __init__(
        self,
        engine: Engine,
        writer: Working,
        describe: Callable[[float, datetime], Process],
        unready: Callable[[], list[str]],
        note_revision: Callable[[str | None], None],
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._describe = describe
        self._unready = unready
        self._note_revision = note_revision
        self._clock = clock
        self._monotonic = monotonic
        self._last_s = monotonic()
        self._begun = False
        self._scored = 0

    def __call__(self) -> None:
        """Beat, if it is time to. While the database does not answer, the writer has nothing else to do."""
        now_s = self._monotonic()
        if now_s < self._last_s + HEARTBEAT_INTERVAL_S and (self._begun or self._unready()):
            return
        scored = self._writer.progress.scored
        rate = (scored - self._scored) / max(now_s - self._last_s, 1.0)
        self._writer.retry(partial(self._beat, round(rate, 1)), lambda: True, asks=("database",))
        self._last_s, self._scored, self._begun = self._monotonic(), scored, True

    def _beat(self, rate: float) -> None:
        now = self._clock()
        with self._engine.begin() as conn:
            self._note_revision(revision_problem(self._engine.url, stored_revision(conn)))
            if not self._begun:
                forget_silent(conn, before=now - FORGOTTEN_AFTER)
            beat(conn, self._describe(rate, now))


def _work(state: WorkerState) -> Mapping[str, Any]:
    return {
        "lag": {f"{partition.topic}/{partition.number}": lag for partition, lag in state.lag.items()},
        "standby": state.standby,
        "scored": state.progress.scored,
        "dead_letters": state.progress.dead,
        "in_flight": state.in_flight_records,
        "model": state.model,
        "reference": state.reference,
        "notes": notes(state),
    }
