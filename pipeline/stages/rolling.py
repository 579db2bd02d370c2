"""Roll up: complete ticks become coarser ones, level by level; ticks that are too old go."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby, pairwise

from sqlalchemy import Connection, Engine

from pipeline.shift.folding import LEVELS, TickKey, floor, fold
from pipeline.shift.rollup import RollUp
from pipeline.storage.engine import reading
from pipeline.storage.monitoring import Position, Watched, claim, made_levels, note_made, read_position
from pipeline.storage.ticks import (
    StoredTick,
    TickRetention,
    delete_expired_ticks,
    first_start,
    put_ticks,
    segment_names,
    stream_level,
)

_MAX_ROWS = 10_000  # of ticks read for one transaction, unless one window has more


def roll_up(engine: Engine, deployment: Watched, minutes: int, *, now: datetime) -> bool:
    """Make the next ticks of a level; False: there is nothing to make.

    Raises Superseded where another monitor was quicker.
    """
    with reading(engine).connect() as conn:
        position = read_position(conn, deployment.id)
        assert position is not None
        finer = LEVELS[LEVELS.index(minutes) - 1]
        span = _next_span(conn, position, minutes, finer)
        if span is None:
            return False
        rows = (len(segment_names(conn, deployment.id)) + 1) * minutes // finer  # of one window
        start, end = span[0], min(span[1], span[0] + max(1, _MAX_ROWS // rows) * timedelta(minutes=minutes))
        made = dict(_coarser(stream_level(conn, deployment.id, finer, start, end), minutes))
    with engine.begin() as conn:
        claim(conn, position, now=now)
        put_ticks(conn, deployment.id, made)
        note_made(conn, deployment.id, minutes, end)
    return True


def delete_old_ticks(
    engine: Engine, deployment: Watched, keep: TickRetention, *, revise: timedelta, now: datetime, chunk: int = 2_000
) -> int:
    """Delete what is older than its level is kept, in one short transaction; return how many. Zero: nothing is left."""
    with reading(engine).connect() as conn:
        position = read_position(conn, deployment.id)
        made = made_levels(conn, deployment.id)
    if position is None or position.evaluated_until is None:
        return 0
    needed = {finer: made[coarser] for finer, coarser in pairwise(LEVELS) if coarser in made}
    if 1 in needed:
        needed[1] = min(needed[1], position.evaluated_until - revise)
    needed[LEVELS[-1]] = position.evaluated_until
    with engine.begin() as conn:
        return delete_expired_ticks(conn, deployment.id, keep, now=now, needed_from=needed, chunk=chunk)


def _next_span(conn: Connection, position: Position, minutes: int, finer: int) -> tuple[datetime, datetime] | None:
    """[start, end) of the complete windows that are to be made; stretches without a tick are passed over."""
    made = made_levels(conn, position.deployment_id)
    complete = position.evaluated_until if finer == LEVELS[0] else made.get(finer)
    if complete is None:
        return None
    end, done = floor(complete, minutes), made.get(minutes)
    if done is not None and done >= end:
        return None
    first = first_start(conn, position.deployment_id, finer, from_=done)
    if first is None or first >= end:
        return None if done is None else (end, end)
    return floor(first, minutes), end


def _coarser(ticks: Iterator[tuple[TickKey, RollUp]], minutes: int) -> Iterator[tuple[TickKey, StoredTick]]:
    """Sums over windows; the ticks come by reference, segment and start."""

    def window(tick: tuple[TickKey, RollUp]) -> TickKey:
        key = tick[0]
        return key._replace(start=floor(key.start, minutes), minutes=minutes)

    for key, group in groupby(ticks, key=window):
        yield key, StoredTick(fold(((key, sums) for _, sums in group), {})[key], 0)
