"""A model, its normal traffic and a baseline, prepared once; then one fault each on a copy of them.

Everything runs in this process: the worker drains a spool into SQLite, the monitor's stages judge it, with a
clock that follows the images.
"""

import io
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sqlalchemy import Engine, select

from pipeline.alerts.evidence import stream_of
from pipeline.alerts.incident import Event
from pipeline.assembly.accepting import accept_baseline
from pipeline.assembly.answering import composer_of
from pipeline.assembly.calibrating import run_calibration
from pipeline.assembly.detecting import Detectors
from pipeline.assembly.handling import alerting_of
from pipeline.assembly.working import run_worker
from pipeline.ingest.image_files import find_images
from pipeline.ingest.source import NewRecord
from pipeline.ingest.spool import Spool
from pipeline.monitor import Monitor
from pipeline.records import Pixels, utc_now
from pipeline.settings import HttpSettings, Settings, SourceSettings, load_settings
from pipeline.storage.alert_schema import IncidentRow
from pipeline.storage.engine import open_database, reading
from pipeline.storage.marks import add_mark
from pipeline.storage.told import read_incident
from tests.causes.casts import Cast
from tests.causes.pictures import DAMAGES
from tests.monitored import LIMITS, MINUTE, Alone

CAMERAS = ("north", "south", "east")
ACCEPTED_MINUTES, CLEAN_MINUTES, FAULT_MINUTES = 300, 5, 25
_SEED = 5

Pool = Sequence[bytes]


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the onset, and which cause is the right one."""

    name: str
    cause: str
    pool: str = "normal"
    share: float = 1.0  # of the images of these cameras
    cameras: tuple[str, ...] = CAMERAS
    rate: float = 1.0  # times the normal one
    model: str = "first"
    mark: str | None = None  # that people make a few minutes before


FAULTS = (
    Fault("fog", "lens", "fog", cameras=("east",)),
    Fault("dark", "lens", "dark", cameras=("north",)),
    Fault("frozen", "frozen", "frozen", cameras=("east",)),
    Fault("channel swap", "pipeline", "channel swap"),
    Fault("resize change", "pipeline", "resize", mark="deploy v12"),
    Fault("new class", "new_class", "strangers", 0.5, ("east",)),
    Fault("class mix", "class_mix", "few classes", 0.8),
    Fault("model swap", "model", model="second"),
    Fault("traffic stop", "traffic", rate=0),
    Fault("flood", "traffic", rate=4),
)


@dataclass(frozen=True)
class Played:
    """What a fault came to."""

    fault: Fault
    payload: Mapping[str, Any]
    raised: Sequence[str]  # streams

    @property
    def place(self) -> int | None:
        """Of the right cause, from 1; None: it is not on the card."""
        kinds = [cause["kind"] for cause in self.payload["cause"]]
        return kinds.index(self.fault.cause) + 1 if self.fault.cause in kinds else None


@dataclass(frozen=True)
class World:
    """Where everything is, with the clean traffic behind it."""

    home: Path
    cast: Cast
    pools: Mapping[str, Pool]
    begin: datetime  # event time of the first image

    @property
    def onset(self) -> datetime:
        return self.begin + (ACCEPTED_MINUTES + CLEAN_MINUTES) * MINUTE

    def settings(self, home: Path, model: str = "first") -> Settings:
        return load_settings(
            database=f"sqlite:///{home / 'oodwatch.db'}",
            source=SourceSettings(url=f"spool:{home}/images"),
            model=self.home / model / "model",
            deployment="gates",
            http=HttpSettings(listen="off"),
        )

    def play(self, fault: Fault) -> Played | None:
        """The fault on a copy of the world, up to the answer; None where nothing was raised."""
        home = self.home / fault.name.replace(" ", "-")
        home.mkdir()
        shutil.copy(self.home / "oodwatch.db", home)
        shutil.copytree(self.home / "images", home / "images")
        settings = self.settings(home, fault.model)
        end = self.onset + FAULT_MINUTES * MINUTE
        if fault.rate:
            self.send(home, fault, self.onset, FAULT_MINUTES + 2)
            drain(settings)
        engine = open_database(settings.database_url)
        if fault.mark is not None:
            with engine.begin() as conn:
                add_mark(conn, at=self.onset - 4 * MINUTE, text=fault.mark, who="ann", deployment_id=None, now=end)
        judge(engine, settings, end + timedelta(seconds=40))
        key = _open_shift(engine)
        if key is None:
            return None
        with reading(engine).connect() as conn:
            deployment, incident, _, _ = read_incident(conn, key)
            event = Event(incident.id, None, None, end, "raise", "ok", incident.state, "monitor", "")
            payload = composer_of(settings)(conn, deployment, incident, event)
        engine.dispose()
        return Played(fault, payload, [stream_of(alert.key) for alert in incident.open_alerts])

    def send(self, home: Path, fault: Fault, start: datetime, minutes: int) -> None:
        """Evenly spaced images, the cameras in turn, each picture drawn anew."""
        rng = np.random.default_rng((_SEED, minutes))
        per_minute = round(self.cast.per_minute * fault.rate)
        records = []
        for i in range(minutes * per_minute):
            camera = CAMERAS[i % len(CAMERAS)]
            wrong = camera in fault.cameras and rng.random() < fault.share
            pool = self.pools[fault.pool if wrong else "normal"]
            at = start + i * MINUTE / per_minute
            headers = {"segment": camera, "ce_time": at.isoformat(), "id": f"{at.timestamp():.0f}-{i}"}
            value = pool[int(rng.integers(len(pool)))]
            records.append(NewRecord(value, headers=tuple((key, text.encode()) for key, text in headers.items())))
        spool = Spool(home, "images", partitions=1)
        spool.append(records)
        spool.close()


def prepare(home: Path, cast: Cast) -> World:
    """Two models, a reference of the first, five hours of normal traffic, and its acceptance as a baseline."""
    torch.set_num_threads(1)
    yesterday = utc_now() - timedelta(days=2)
    begin = yesterday.replace(hour=5, minute=20, second=0, microsecond=0)
    world = World(home, cast, _pools(cast), begin)
    settings = world.settings(home)
    for name, other in (("first", False), ("second", True)):
        (home / name).mkdir()
        cast.make(home / name, other)
    _calibrate(settings, home / "normal", cast.calibrate, cast)
    accepted = begin + ACCEPTED_MINUTES * MINUTE
    engine = open_database(settings.database_url)
    for start, minutes in ((begin, ACCEPTED_MINUTES), (accepted, CLEAN_MINUTES)):
        world.send(home, Fault("", ""), start, minutes)
        drain(settings)
        judge(engine, settings, start + (minutes + 0.2) * MINUTE)
        if start == begin:  # a baseline begins to count with the next minutes
            accept_baseline(settings, begin, accepted, name="ann", reason="clean", force=True)
    engine.dispose()
    return world


def second_reference(world: World) -> None:
    """The other model's reference, from pictures of more contrast than those of the traffic: a careless swap."""
    some = world.cast.calibrate[: len(world.cast.calibrate) // 2].astype(np.float64)
    hard = np.clip((some - 110) * 1.6 + 110, 0, 255).astype(np.uint8)
    _calibrate(world.settings(world.home, "second"), world.home / "hard", hard, world.cast)


def drain(settings: Settings) -> None:
    """All that waits, through a worker."""
    run_worker(settings, start_at="earliest", drain=True, stop=threading.Event())


def judge(engine: Engine, settings: Settings, now: datetime) -> None:
    """Everything that is due at that time."""
    Monitor(engine, Alone(), Detectors(engine, settings), LIMITS, alerting_of(settings), clock=lambda: now).run()


def _pools(cast: Cast) -> dict[str, Pool]:
    rng = np.random.default_rng(_SEED)
    pools = {"normal": cast.normal, "strangers": cast.strangers, "frozen": cast.normal[:1]}
    pools["few classes"] = cast.normal[np.isin(cast.labels, cast.favourites)]
    pools |= {name: damage(cast.normal, rng) for name, damage in DAMAGES.items()}
    return {name: [_png(picture) for picture in pixels] for name, pixels in pools.items()}


def _calibrate(settings: Settings, folder: Path, pixels: Pixels, cast: Cast) -> None:
    classes = (settings.model / "../classes.txt").read_text().split("\n") if settings.model else []
    for i, (picture, label) in enumerate(zip(pixels, cast.calibrate_labels, strict=False)):
        home = folder / classes[label]
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{i:05}.png").write_bytes(_png(picture))
    files = [(file.path, file.parent) for file in find_images([folder])]
    run_calibration(settings, files, target_fpr=0.05, temperature=1.0, representative=True)


def _png(picture: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def _open_shift(engine: Engine) -> int | None:
    """The incident that the monitor has opened."""
    with reading(engine).connect() as conn:
        mine = (IncidentRow.kind == "shift", IncidentRow.resolved_at.is_(None))
        return conn.scalar(select(IncidentRow.id).where(*mine))
