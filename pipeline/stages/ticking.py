"""Stored minutes → ticks as detectors read them, a stretch of time at once, so that memory is constant."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Engine

from pipeline.shift.folding import POOLED, TICK
from pipeline.shift.recount import Recount, added
from pipeline.shift.tick import Counts, Tick
from pipeline.storage.engine import reading
from pipeline.storage.ticks import Minute, read_minutes, segment_names, stream_level

_MAX_TICKS = 240  # of one transaction
_MAX_ROWS = 20_000  # of ticks in memory at once


def own_ticks(engine: Engine, deployment_id: int, reference_id: int, start: datetime, end: datetime) -> Iterator[Tick]:
    """One reference's minutes with start <= minute < end, from its first image on: as the monitor's detector reads."""
    begun = False
    with reading(engine).connect() as conn:
        names = segment_names(conn, deployment_id)
    for first, last in _stretches(names, start, end):
        with reading(engine).connect() as conn:
            minutes = read_minutes(conn, deployment_id, first, last)
        for at in each(first, last, TICK):
            minute = minutes.get(at, {}).get(reference_id)
            begun = begun or minute is not None
            if begun:
                yield tick_of(at, minute, names)


def recounted_ticks(
    engine: Engine, deployment_id: int, recounts: Mapping[int, Recount], start: datetime, end: datetime
) -> Iterator[Tick]:
    """The minutes of all these references together, each as its recount has it."""
    begun = False
    with reading(engine).connect() as conn:
        names = segment_names(conn, deployment_id)
    for first, last in _stretches(names, start, end):
        minutes: dict[datetime, dict[int, Counts]] = {}
        with reading(engine).connect() as conn:
            for key, sums in stream_level(conn, deployment_id, 1, first, last):
                if key.reference_id in recounts:
                    counted = recounts[key.reference_id](sums, pooled=key.segment_id == POOLED)
                    minute = minutes.setdefault(key.start, {})
                    before = minute.get(key.segment_id)
                    minute[key.segment_id] = counted if before is None else added(before, counted)
        for at in each(first, last, TICK):
            found = minutes.get(at, {})
            begun = begun or bool(found)
            if begun:
                segments = {names[key]: counts for key, counts in found.items() if key != POOLED}
                yield Tick(at, 1, segments, found.get(POOLED))


def tick_of(start: datetime, minute: Minute | None, names: Mapping[int, str]) -> Tick:
    """A stored minute; None: there was no image."""
    if minute is None:
        return Tick(start, 1, {})
    return Tick(start, 1, {names[key]: counts for key, counts in minute.segments.items()}, minute.pooled)


def span(names: Mapping[int, str]) -> timedelta:
    """How much time to read at once, where there are so many segments."""
    return TICK * min(_MAX_TICKS, max(1, _MAX_ROWS // (len(names) + 1)))


def each(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    """start, start + step, ... before the end."""
    while start < end:
        yield start
        start += step


def _stretches(names: Mapping[int, str], start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    step = span(names)
    for first in each(start, end, step):
        yield first, min(end, first + step)
