"""Stored minutes that a person accepts → a baseline. Minutes without images count as such."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection

from pipeline.errors import RefusedError
from pipeline.records import CoverageReference, Float64s, Ints, Reference
from pipeline.shift.baseline import Accepted, Baseline, baseline, normal_of_all
from pipeline.shift.class_mix import ClassHours, ClassMix, class_mix
from pipeline.shift.coverage import BLOCK, traffic_coverage
from pipeline.shift.histogram import BINS
from pipeline.shift.hours import HOUR_US, HOURS_OF_DAY
from pipeline.shift.rollup import RollUp
from pipeline.shift.tick import to_us
from pipeline.storage.minutes import pooled_minutes, segment_minutes
from pipeline.storage.ticks import segment_names


@dataclass(frozen=True, slots=True)
class Source:
    """Whose minutes, and which: start <= minute < end, aware UTC."""

    deployment_id: int
    reference: Reference
    start: datetime
    end: datetime
    minutes: int = 1  # of the ticks that are read: minutes are kept for days, hours for years

    @property
    def tick(self) -> timedelta:
        """How long each is."""
        return timedelta(minutes=self.minutes)

    @property
    def tick_us(self) -> int:
        """The same in microseconds."""
        return self.tick // timedelta(microseconds=1)

    @property
    def starts(self) -> Ints:
        """(T,) of all its ticks, microseconds since 1970."""
        return np.arange(to_us(self.start), to_us(self.end), self.tick_us)

    def pooled(self, conn: Connection) -> Iterator[tuple[int, RollUp]]:
        """Of the minutes with images: which, and all traffic."""
        for start, sums in pooled_minutes(conn, self.deployment_id, self.key, self.start, self.end, self.minutes):
            yield (start - self.start) // self.tick, sums

    def segment(self, conn: Connection, segment_id: int) -> Accepted:
        """One segment's minutes."""
        found = segment_minutes(conn, self.deployment_id, self.key, segment_id, self.start, self.end, self.minutes)
        return self.accepted(((one.start - self.start) // self.tick, one.n, one.flags, one.histogram) for one in found)

    def accepted(self, minutes: Iterable[tuple[int, int, int, Float64s | Ints]]) -> Accepted:
        """All minutes, from those with images."""
        starts = self.starts
        n, k, histograms = np.zeros(len(starts)), np.zeros(len(starts)), np.zeros((len(starts), BINS))
        for at, images, flags, histogram in minutes:
            n[at], k[at], histograms[at] = images, flags, histogram
        return Accepted(starts, n, k, histograms)

    @property
    def key(self) -> int:
        """The reference's."""
        assert self.reference.id is not None
        return self.reference.id


def accept(
    conn: Connection, source: Source, *, step: Callable[[float], None] = lambda share: None
) -> tuple[Baseline, Accepted]:
    """The baseline of these minutes, and all traffic's. Memory: one segment's minutes at a time.

    `step` hears which share of the segments is read.

    Raises RefusedError where there is no image in them.
    """
    gathered = _Gathered(source)
    pooled = source.accepted(gathered.read(conn))
    if not pooled.n.any():
        raise RefusedError(
            f"no image was scored with reference {source.reference.name} from {source.start:%Y-%m-%dT%H:%MZ} to"
            f" {source.end:%Y-%m-%dT%H:%MZ}: name a window with traffic"
        )
    classes = gathered.classes(conn, pooled)
    known = _segments(conn, source, step)
    made = baseline(
        pooled,
        ((name, ticks) for name, ticks in known if ticks.n.any()),
        n_cal=source.reference.n,
        minutes=source.minutes,
        classes=classes,
    )
    return made.with_coverage(gathered.coverage(made.pooled.d)), pooled


def _segments(conn: Connection, source: Source, step: Callable[[float], None]) -> Iterator[tuple[str, Accepted]]:
    names = segment_names(conn, source.deployment_id)
    for at, (key, name) in enumerate(names.items()):
        step(at / len(names))
        yield name, source.segment(conn, key)


def dispersion_of(conn: Connection, source: Source) -> float | None:
    """D of all traffic in these minutes; None where no image is stored."""
    pooled = source.accepted(_Gathered(source).read(conn))
    return normal_of_all(pooled, source.reference.n).d if pooled.n.any() else None


class _Block(NamedTuple):
    hour: int
    n: int
    z_sum: Float64s
    z_outer: Float64s


class _Gathered:
    """What only all traffic tells, added up while it is read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._by_hour: dict[int, Ints] = {}
        self._blocks: list[_Block] = []
        self._open: _Block | None = None

    def read(self, conn: Connection) -> Iterator[tuple[int, int, int, Ints]]:
        """Each minute with images: which, n, flags, histogram."""
        first = to_us(self._source.start)
        for at, sums in self._source.pooled(conn):
            hour = (first + at * self._source.tick_us) // HOUR_US
            self._by_hour[hour] = self._by_hour.get(hour, 0) + sums.class_counts
            self._fill(hour % HOURS_OF_DAY, sums)
            yield at, sums.n, sums.flags, sums.histogram

    def classes(self, conn: Connection, pooled: Accepted) -> ClassMix | None:
        """The class mix, with a second look at the minutes: for D only the frequent classes fit into memory."""
        if not self._by_hour:
            return None
        hours = ClassHours(np.array(list(self._by_hour)) * HOUR_US, np.stack(list(self._by_hour.values())))
        columns = hours.frequent
        frequent = np.zeros((len(pooled.starts), len(columns)))
        for at, sums in self._source.pooled(conn):
            frequent[at] = sums.class_counts[columns]
        return class_mix(hours, pooled.starts, pooled.n, frequent)

    def coverage(self, d: float) -> CoverageReference | None:
        """From the blocks of the features, where there are enough; of coarser ticks they would be too large."""
        if not self._blocks or self._source.minutes > 1:
            return None
        hours, n, z_sum, z_outer = zip(*self._blocks, strict=True)
        return traffic_coverage(np.array(n, np.float64), np.stack(z_sum), np.stack(z_outer), np.array(hours), d)

    def _fill(self, hour: int, sums: RollUp) -> None:
        if sums.z_sum is None or sums.z_outer is None or not sums.z_n:
            return
        block = _Block(hour, sums.z_n, sums.z_sum, sums.z_outer)
        if self._open is not None:
            before = self._open
            block = _Block(before.hour, before.n + block.n, before.z_sum + block.z_sum, before.z_outer + block.z_outer)
        self._open = block
        if block.n >= BLOCK:
            self._blocks.append(block)
            self._open = None
