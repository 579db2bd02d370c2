"""From parts to ticks, from ticks to coarser ticks, and when a tick is complete. Pure.

All times are aware UTC datetimes, all intervals half-open in event time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pipeline.shift.rollup import RollUp, merge

#: Minutes of each level; each is made from the one before it.
LEVELS = (1, 5, 60, 1440)
TICK = timedelta(minutes=1)

#: The segment key of what is summed over all segments.
POOLED = 0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TickKey(NamedTuple):
    """Which roll-up of a deployment; sorts by time first."""

    start: datetime
    minutes: int
    reference_id: int
    segment_id: int


class Part(NamedTuple):
    """One roll-up part as the worker has written it."""

    id: int
    reference_id: int
    segment_id: int
    tick: datetime
    sums: RollUp


@dataclass(frozen=True, slots=True)
class StreamClock:
    """How far one partition has come."""

    newest: datetime | None  # largest event time seen
    moved_at: datetime  # when its cursor last moved, processing time


@dataclass(frozen=True, slots=True)
class Completeness:
    """Up to which event time everything is believed to have arrived."""

    watermark: datetime
    until: datetime  # a tick that ends here or earlier is due


def floor(at: datetime, minutes: int) -> datetime:
    """The start of the interval of that many minutes that holds `at`; days begin at midnight, UTC."""
    return at - (at - _EPOCH) % timedelta(minutes=minutes)


def reaching(start: datetime, oldest: Mapping[int, datetime]) -> list[int]:
    """Levels, finest first, whose ticks reach back to `start`, or else as far back as anything is stored.

    `oldest` says where each stored level begins: finer ones are deleted sooner. A coarse tick begins before its first
    image does, which is no sign that finer ticks of that time were deleted.
    """
    begun = min((at + timedelta(minutes=minutes) for minutes, at in oldest.items()), default=start)
    return [
        level for level in LEVELS if level in oldest and oldest[level] <= max(start + timedelta(minutes=level), begun)
    ]


def completeness(
    streams: Sequence[StreamClock], *, now: datetime, idle: timedelta, lateness: timedelta
) -> Completeness | None:
    """Where the watermark stands, and up to where ticks are due; None before the first image.

    The watermark is the smallest newest event time over active partitions: a partition whose cursor has
    not moved for longer than `idle` (processing time) is left out, or one quiet partition would hold all
    ticks open. A tick is due when the watermark has passed its end by `lateness`. When every partition is
    idle, all that has been seen is complete, the newest tick included. A clock that steps back makes idle
    partitions active for as long: ticks are then due later, never wrongly.
    """
    seen = [stream.newest for stream in streams if stream.newest is not None]
    if not seen:
        return None
    active = [stream.newest for stream in streams if stream.newest is not None and now - stream.moved_at <= idle]
    if not active:
        return Completeness(max(seen), floor(max(seen), 1) + TICK)
    return Completeness(min(active), floor(min(active) - lateness, 1))


def targets(
    part: Part, *, evaluated_until: datetime | None, made_until: Mapping[int, datetime]
) -> Iterator[tuple[TickKey, bool]]:
    """The ticks that a part belongs to, and whether it comes late to them.

    Always its minute. A coarser tick is made from finer ones when it is complete; to one that is made
    already the part is added directly, which is the same sum and needs no minute that is long deleted.
    """
    late = evaluated_until is not None and part.tick < evaluated_until
    yield TickKey(part.tick, 1, part.reference_id, part.segment_id), late
    for minutes in LEVELS[1:]:
        start = floor(part.tick, minutes)
        if minutes in made_until and start + timedelta(minutes=minutes) <= made_until[minutes]:
            yield TickKey(start, minutes, part.reference_id, part.segment_id), True


def fold(addends: Iterable[tuple[TickKey, RollUp]], known: Mapping[TickKey, RollUp]) -> dict[TickKey, RollUp]:
    """Every tick that changes, with all its addends in their order.

    A left fold from what is known: cutting the addends into several calls gives the same bits.
    """
    totals: dict[TickKey, RollUp] = {}
    for key, sums in addends:
        before = totals.get(key) or known.get(key)
        totals[key] = sums if before is None else merge(before, sums)
    return totals
