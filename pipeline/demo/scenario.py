"""The demo: six cameras show digits to a digit reader; one after another shows something else.

Everything is the product itself, each role a process of its own: package, calibration, log, worker, monitor,
dashboard, database. Only the images and two weeks of history are made up. All share one clock, on which a second is
a minute.
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Engine

from pipeline.alerts.page import headline, page
from pipeline.assembly.parts import open_database_of
from pipeline.assembly.supervising import Hear, Role, Supervisor
from pipeline.demo import digits
from pipeline.demo.configured import FACTOR, configuration, settings_of
from pipeline.demo.history import Pool, begin_watching, write_past
from pipeline.demo.model import N_CALIBRATE, prepare_model
from pipeline.demo.pictures import Pictures
from pipeline.demo.sets import write_sets
from pipeline.demo.story import CAMERAS, SHORTEST_WHOLE_S, Scene, story
from pipeline.demo.summary import Summary, summarise
from pipeline.demo.traffic import traffic
from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.produce import send
from pipeline.ingest.spool import Spool
from pipeline.settings import Settings, child_environment
from pipeline.shift.folding import floor
from pipeline.storage.engine import reading
from pipeline.storage.monitoring import read_position
from pipeline.storage.streams import ledger

#: Images a second of each camera, where the machine can; a short story needs more to come to its end.
RATE, SHORT_RATE = 30.0, 60.0
_SHARE = 0.25  # of the speed at which the pool was scored: the worker also reads, stores and shares the machine
_SETTLED_S = 90.0  # how long worker and monitor may take to finish what was sent


def run_demo(
    *,
    seconds: float,
    port: int | None,
    stop: threading.Event,
    say: Callable[[str], None],
    hear: Hear,
    shown: Callable[[str], None] = lambda url: None,
    keep: Path | None = None,
) -> Summary:
    """Play the story once; ends by itself, or early when `stop` is set.

    `port`: of the dashboard, None for none; `shown` hears its address. `keep` names a new folder for the package, the
    database and images to go on with.
    """
    if keep is not None and keep.exists():
        raise UsageError(f"--keep {keep}: is there already; name a new folder")
    torch.set_num_threads(1)  # the model is tiny: more threads only get in each other's way
    with tempfile.TemporaryDirectory(prefix="oodwatch-demo-") as folder:
        home = (Path(folder) if keep is None else keep).resolve()
        home.mkdir(parents=True, exist_ok=True)
        config = home / "oodwatch.toml"
        config.write_text(configuration(home, port), encoding="utf-8")
        settings = settings_of(config)
        engine = open_database_of(settings)
        heard = _Heard(hear)
        try:
            with Supervisor(child_environment(config, alone=True), heard) as supervisor:
                return _Stage(settings, engine, home, supervisor, stop, say, shown, heard).play(seconds, keep=keep)
        finally:
            engine.dispose()


class _Heard:
    """Pages come as JSON lines out of the monitor: they are shown as text, everything else as it is."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self.pages = 0

    def __call__(self, role: str, line: str) -> None:
        told = _told(line) if role == "monitor" else None
        if told is None:
            self._hear(role, line)
            return
        self.pages += told["action"] == "trigger"
        whole = told["action"] in ("trigger", "resolve")
        for part in (page(told) if whole else headline(told)).splitlines():
            self._hear("page", part)


def _told(line: str) -> dict[str, Any] | None:
    if not line.startswith('{"channel"'):
        return None
    told: dict[str, Any] = json.loads(line)
    return told


@dataclass
class _Stage:
    """One performance."""

    settings: Settings
    engine: Engine
    home: Path
    supervisor: Supervisor
    stop: threading.Event
    say: Callable[[str], None]
    shown: Callable[[str], None]
    heard: _Heard

    def play(self, seconds: float, *, keep: Path | None) -> Summary:
        """From the first look at an empty dashboard to the last alert."""
        if self.settings.dashboard.port:
            self.supervisor.start(Role("dashboard", ("dashboard",)))
            self.shown(f"http://127.0.0.1:{self.settings.dashboard.port}/")
        images = digits.load_images()
        self.say(f"calibrating the digit reader on {N_CALIBRATE:,} images ...")
        pool, speed = prepare_model(self.settings, self.engine, self.home, images, self._unless_stopped)
        self._unless_stopped()
        self.supervisor.start(Role("worker", ("worker",)))
        wished = SHORT_RATE if seconds < SHORTEST_WHOLE_S else RATE
        rate = min(wished, speed * _SHARE / len(CAMERAS))
        self.say(f"this machine scored {speed:,.0f} images/s: each of {len(CAMERAS)} cameras sends {rate:.0f} a second")
        deployment = self._history(pool, rate)
        pictures = Pictures.of(images, self.home / "stream")
        self._unless_stopped()
        scenes = story(seconds)
        began = floor(self.settings.clock.now(), 1) + timedelta(minutes=1)
        with self.engine.begin() as conn:
            begin_watching(conn, deployment, at=began)
        self.supervisor.start(Role("monitor", ("monitor",)))
        sent, took_s = self._send(pictures, scenes, began, seconds, rate)
        self._settle(deployment, sent, self.settings.clock.now())
        if keep is not None:
            write_sets(images, self.home)
        with reading(self.engine).connect() as conn:
            return summarise(
                conn,
                deployment,
                began=began,
                scenes=scenes,
                speed=sent / max(took_s, 1e-9),
                pages=self.heard.pages,
            )

    def _unless_stopped(self) -> None:
        self.supervisor.check()
        if self.stop.is_set():
            raise KeyboardInterrupt  # nothing has been shown yet: there is nothing to sum up

    def _history(self, pool: Pool, rate: float) -> int:
        began = time.monotonic()
        with self.engine.begin() as conn:
            deployment = write_past(
                conn,
                self.settings,
                pool,
                cameras=CAMERAS,
                per_minute=rate * 60 / FACTOR,
                end=floor(self.settings.clock.now(), 1),
            )
        took_s = time.monotonic() - began
        self.say(
            f"two weeks of clean traffic are history ({took_s:.1f} s), the last days of them are accepted as normal"
        )
        return deployment

    def _send(
        self, pictures: Pictures, scenes: tuple[Scene, ...], began: datetime, seconds: float, rate: float
    ) -> tuple[int, float]:
        spool = Spool(self.home / "spool", "images", partitions=3)
        clock = self.settings.clock.now
        while clock() < began:
            time.sleep(0.02)
        self.say(f"now, for {seconds:.0f} s, a second on the machine is a minute on the demo's clock ({began:%H:%MZ})")

        def check(_sent: int, _bytes: int) -> None:
            self.supervisor.check()

        total = rate * len(CAMERAS)
        records = traffic(pictures, scenes, round(seconds * total), total, clock, began, self.say)
        try:
            result = send(
                records,
                spool.append,
                rate=total,
                clock=time.monotonic,
                sleep=time.sleep,
                stop=self.stop.is_set,
                progress=check,
            )
        finally:
            spool.close()
        return result.sent, result.seconds

    def _settle(self, deployment: int, sent: int, end: datetime) -> None:
        """Wait until every record is stored and every minute that can be judged is."""
        limit = time.monotonic() + _SETTLED_S
        while not self._is_settled(deployment, sent, end):
            self.supervisor.check()
            if time.monotonic() > limit:
                raise EnvironmentFault(
                    f"worker and monitor did not finish within {_SETTLED_S:.0f} s what was sent: this machine is too"
                    " busy for the demo; run it again when less is going on"
                )
            time.sleep(0.2)

    def _is_settled(self, deployment: int, sent: int, end: datetime) -> bool:
        with reading(self.engine).connect() as conn:
            lines = ledger(conn)
            position = read_position(conn, deployment)
        done = sum(line.scored + line.dead for line in lines)
        judged = None if position is None else position.evaluated_until
        return done >= sent and judged is not None and judged >= end - timedelta(minutes=4)
