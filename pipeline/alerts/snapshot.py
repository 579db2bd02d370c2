"""A deployment at one moment, as far as the health of its pipeline goes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

#: What is counted is counted over so long.
WINDOW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Partition:
    """Where the cursor of one partition stands."""

    name: str
    waiting: int  # records, as last seen
    moved_at: datetime  # processing time
    newest: datetime | None  # event time of what was scored
    kept: timedelta | None = None  # how long the log keeps a record, where that is known and limited
    unread_since: datetime | None = None  # no record that waits is older, by the log's time
    ahead: float | None = None  # share of what a log of limited size holds that lies before what waits

    def left(self, now: datetime) -> float | None:
        """What share of the log's retention is left until the oldest record that waits may be deleted."""
        left = [] if self.ahead is None else [self.ahead]
        if self.kept is not None and self.unread_since is not None:
            left.append(1 - (now - self.unread_since) / self.kept)
        return min(left, default=None)


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker's heartbeat says."""

    name: str
    started_at: datetime
    beat_at: datetime
    ready: bool
    reasons: tuple[str, ...]
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Disk:
    """Where the database lies."""

    path: str
    free: int  # bytes
    total: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A deployment at one moment; counts are of the last hour."""

    now: datetime
    pace: float = 1.0  # seconds of the clock that pass in one of the machine's: limits of processing time grow by it
    partitions: tuple[Partition, ...] = ()
    headroom: float = 0.2  # share of the log's retention that has to be left before what waits
    scored: int = 0
    dead: Mapping[str, int] | None = None  # dead letters by reason
    lost: int = 0  # records that the log no longer held, or damaged
    skewed: Mapping[str, tuple[int, int]] | None = None  # by segment: images without a usable time, images
    workers: tuple[Worker, ...] = ()
    disk: Disk | None = None
    imaged: tuple[datetime, datetime] | None = None  # first and newest minute with images of the reference of now
    judged_until: datetime | None = None  # the newest minute that its detector has judged
    chosen: bool = False  # somebody has promoted a model, or gone back to one
    refused: tuple[datetime, int, str] | None = None  # that choice: since when, by how many workers, and why
    mixed: str | None = None  # why scores cannot be held against the reference, where that is so
