"""A drill: odd images through the real topic, and a note through the real outbox and channels; how long each took.

Drills are kept out of every statistic, so no detector ever speaks of one. What a drill measures is all the rest of
the way: log, worker, database; outbox, monitor, channel. In between, it takes the detector's place and writes what
is to be told itself, as soon as its images are seen flagged. What a real shift waits for besides is said apart.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from pipeline.alerts.trial import drill as payload_of
from pipeline.assembly.parts import existing_database, required_source
from pipeline.assembly.sources import open_appender
from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.image_files import find_images
from pipeline.ingest.odd_images import odd_images
from pipeline.ingest.source import NewRecord
from pipeline.records import utc_now
from pipeline.settings import ClockSettings, Settings
from pipeline.storage.drills import Outcome, Scored, begin_drill, dead, end_drill, outcomes, scored, tell_drill
from pipeline.storage.engine import reading
from pipeline.storage.monitoring import Watched, one_deployment

_LOOK_S = 0.1
_STANDS_S = 60.0  # before it is told that the drill is over
_TICK_S = 60.0


@dataclass(frozen=True, slots=True)
class Paged:
    """One channel."""

    channel: str
    delivered_s: float | None  # from sending on; None: not within the time
    attempts: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Drilled:
    """How a drill went. Seconds count from the moment before the first image was sent, by one clock."""

    deployment: str
    segment: str
    images: int
    scored: int
    flagged: int
    dead: dict[str, int]  # how many, by reason
    sent_s: float
    first_stored_s: float | None
    stored_s: float | None  # all of them; None: not within the time
    told_s: float | None  # when it was written down whom to tell; None: nothing was flagged
    channels: Sequence[Paged]
    waits_at_most_s: float  # a real shift, besides, until its minute is over and judged

    @property
    def went_well(self) -> bool:
        """All images were scored, some are flagged, and every channel was told."""
        told = all(channel.delivered_s is not None for channel in self.channels)
        return self.scored == self.images and self.flagged > 0 and told


def run_drill(
    settings: Settings,
    *,
    folder: Path | None,
    segment: str,
    count: int,
    timeout_s: float,
    who: str,
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Drilled:
    """Send, watch, tell, watch; `timeout_s` for each of the two.

    Raises UsageError for a folder without images, a source that is not named, an unknown deployment; EnvironmentFault
    where the log refuses an image.
    """
    values = _images(folder, count)
    source = required_source(settings)
    token = secrets.token_hex(6)
    records = {f"drill/{token}/{i}": value for i, value in enumerate(values)}
    with existing_database(settings) as engine:
        with reading(engine).connect() as conn:
            deployment = one_deployment(conn, settings.deployment)
        watch = _Watch(engine, deployment, list(records), utc_now(), settings.clock, clock, sleep)
        _send(settings, source, records, segment)
        sent_s = watch.elapsed()
        say(f"sent {len(records)} images; waiting for a worker")
        found, lost, first_s, stored_s = watch.stored(timeout_s)
        flagged = sum(one.is_ood for one in found)
        told_s, channels = None, list[Paged]()
        if flagged:
            say(f"{flagged} of {len(found)} are flagged; waiting for the monitor to tell it")
            told_s, channels = watch.told([channel.name for channel in settings.channels], found, who, timeout_s)
    return Drilled(
        deployment.name,
        segment,
        len(records),
        len(found),
        flagged,
        {reason: list(lost.values()).count(reason) for reason in sorted(set(lost.values()))},
        sent_s,
        first_s,
        stored_s,
        told_s,
        channels,
        _TICK_S + settings.monitor.lateness_seconds + settings.monitor.interval_seconds,
    )


def _images(folder: Path | None, count: int) -> list[bytes]:
    if folder is None:
        return list(odd_images(count, np.random.default_rng()))
    files = find_images([folder])[:count]
    if not files:
        raise UsageError(f"--images {folder}: no image in it")
    try:
        return [file.path.read_bytes() for file in files]
    except OSError as error:
        raise UsageError(f"--images {error.filename}: {error.strerror}") from error


def _send(settings: Settings, source: str, records: dict[str, bytes], segment: str) -> None:
    def refuse(record: NewRecord, why: str) -> None:
        raise EnvironmentFault(f"{source} refuses an image of the drill: {why}")

    log = open_appender(source, settings.source.kafka, partitions=None, timeout_s=10.0, on_refused=refuse)
    try:
        log.append(
            [
                NewRecord(value, headers=(("id", key.encode()), ("segment", segment.encode()), ("drill", b"1")))
                for key, value in records.items()
            ]
        )
    finally:
        log.close()


@dataclass(slots=True)
class _Watch:
    """Looks into the database until something is there, or the time is over."""

    engine: Engine
    deployment: Watched
    ids: list[str]
    began_at: datetime
    shared: ClockSettings  # by which the monitor tells
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    began: float = 0.0

    def __post_init__(self) -> None:
        self.began = self.clock()

    def elapsed(self) -> float:
        """Seconds since it began."""
        return self.clock() - self.began

    def stored(self, timeout_s: float) -> tuple[list[Scored], dict[str, str], float | None, float | None]:
        """What became of the images, and when the first and the last of them were there."""
        first: float | None = None
        give_up = self.elapsed() + timeout_s
        while True:
            with reading(self.engine).connect() as conn:
                found = scored(conn, self.deployment.id, self.ids, about=self.began_at)
                lost = dead(conn, self.deployment.id, self.ids, since=self.began_at)
            now = self.elapsed()
            if first is None and (found or lost):
                first = now
            if len(found) + len(lost) == len(self.ids):
                return found, lost, first, now
            if now >= give_up:
                return found, lost, first, None
            self.sleep(_LOOK_S)

    def told(
        self, channels: Sequence[str], found: Sequence[Scored], who: str, timeout_s: float
    ) -> tuple[float, list[Paged]]:
        """Write it into the outbox; when, and how each channel heard of it. What has not been told never is."""
        now = self.shared.now()
        until = now + self.shared.lasting(_STANDS_S)
        with self.engine.begin() as conn:
            drill = begin_drill(conn, self.deployment.id, who=who, now=now, until=until)
            payload = payload_of(
                drill,
                sum(one.is_ood for one in found),
                len(found),
                deployment=self.deployment.name,
                model=found[0].model,
                reference=found[0].reference,
                segment=found[0].segment,
                now=now,
            )
            tell_drill(conn, drill, payload, channels, who=who, now=now, until=until)
        told_s = self.elapsed()
        try:
            return told_s, self._delivered(drill, told_s + timeout_s)
        finally:
            with self.engine.begin() as conn:
                end_drill(conn, drill, at=self.shared.now())

    def _delivered(self, drill: int, give_up: float) -> list[Paged]:
        at: dict[str, float] = {}
        while True:
            with reading(self.engine).connect() as conn:
                seen: list[Outcome] = outcomes(conn, drill)
            now = self.elapsed()
            for one in seen:
                if one.delivered:
                    at.setdefault(one.channel, now)
            if all(one.delivered or one.given_up for one in seen) or now >= give_up:
                return [Paged(one.channel, at.get(one.channel), one.attempts, one.error) for one in seen]
            self.sleep(_LOOK_S)
