"""Weeks of clean traffic through the detector, as fast as it goes: how many pages would it have caused?

The model, the calibration, the accepted history and the detector are the demo's; the clock and the log are left out.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import torch

from pipeline.assembly.detecting import budget_of, thresholds_of
from pipeline.assembly.parts import open_database_of
from pipeline.demo import digits
from pipeline.demo.configured import configuration, settings_of
from pipeline.demo.history import Past, Pool, write_past
from pipeline.demo.model import prepare_model
from pipeline.demo.story import CAMERAS
from pipeline.shift.budget import MINUTES_PER_DAY
from pipeline.shift.detector import Detector
from pipeline.shift.folding import POOLED, TICK, floor
from pipeline.shift.null import Null
from pipeline.shift.tick import Tick
from pipeline.storage.baselines import newest_baseline, read_baseline

_PER_MINUTE = 30.0  # images of each camera


@dataclass(frozen=True, slots=True)
class FalseAlarm:
    """A stream that left ok though nothing had happened."""

    at: datetime
    stream: str
    state: str


@dataclass(frozen=True, slots=True)
class Quiet:
    """What clean traffic has caused."""

    days: int
    images: int
    budget_days: float  # one false alarm in so many days is allowed
    alarms: tuple[FalseAlarm, ...]
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        shown = [{**asdict(alarm), "at": alarm.at.isoformat()} for alarm in self.alarms]
        return {"days": self.days, "images": self.images, "pages": len(self.alarms), "alarms": shown}

    def as_text(self) -> str:
        """For a person."""
        allowed = f"one in {self.budget_days:g} days is what the budget allows on average"
        lines = [f"{alarm.at:%Y-%m-%d %H:%MZ} {alarm.stream}: ok → {alarm.state}" for alarm in self.alarms]
        pages = f"{len(self.alarms)} page{'s' * (len(self.alarms) != 1)}"
        head = f"{self.days} days, {self.images:,} clean images of {len(CAMERAS)} cameras: {pages} ({allowed})"
        return "\n".join([*lines, head, f"{self.seconds:.0f} s"])


def run_quiet(
    *, days: int, stop: threading.Event, say: Callable[[str], None], seed: int = 23, per_minute: float = _PER_MINUTE
) -> Quiet:
    """Play so many days of clean traffic to the detector, or until told to stop."""
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="oodwatch-demo-") as folder:
        config = Path(folder) / "oodwatch.toml"
        config.write_text(configuration(Path(folder), None), encoding="utf-8")
        settings = settings_of(config)
        engine = open_database_of(settings)
        say("calibrating, and accepting some days of traffic as normal ...")
        pool, _ = prepare_model(settings, engine, Path(folder), digits.load_images())
        now = floor(settings.clock.now(), MINUTES_PER_DAY)
        with engine.begin() as conn:
            deployment = write_past(conn, settings, pool, cameras=CAMERAS, per_minute=per_minute, end=now)
        assert pool.reference.id is not None
        with engine.connect() as conn:
            version = newest_baseline(conn, deployment, pool.reference.id)
            assert version is not None
            accepted = read_baseline(conn, deployment, pool.reference.id, version)
        engine.dispose()
    null = Null.from_reference(pool.reference).with_baseline(accepted)
    detector = Detector(null, budget=budget_of(settings), thresholds=thresholds_of(settings), segments=CAMERAS)
    alarms: list[FalseAlarm] = []
    images = played = 0
    for day in range(days):
        if stop.is_set():
            break
        for tick in _day(pool, now + timedelta(days=day), np.random.default_rng((seed, day)), per_minute):
            changed = [one for one in detector.step(tick) if one.transition is not None]
            raised = [one for one in changed if one.transition is not None and one.transition.before == "ok"]
            alarms += [FalseAlarm(tick.start, one.stream, one.state) for one in raised]
            images += 0 if tick.pooled is None else int(tick.pooled.n)
        played += 1
        if played % 5 == 0:
            say(f"day {played} of {days}: {len(alarms)} pages so far")
    return Quiet(played, images, settings.detector.budget_days, tuple(alarms), time.monotonic() - began)


def _day(pool: Pool, start: datetime, rng: np.random.Generator, per_minute: float) -> Iterator[Tick]:
    keys = dict(enumerate(CAMERAS, POOLED + 1))
    past = Past(pool, list(keys), per_minute, start)
    for hour in range(24):
        first = start + timedelta(hours=hour)
        drawn = past.drawn(first, first + timedelta(hours=1), 1, rng)
        for minute in range(60):
            at = first + minute * TICK
            of = {key.segment_id: sums for key, sums in drawn.items() if key.start == at}
            pooled = of.pop(POOLED)
            yield Tick(at, 1, {keys[segment]: sums for segment, sums in of.items()}, pooled)
