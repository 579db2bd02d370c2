"""A window of time as few stored ticks: days and hours within, minutes only at its edges."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pipeline.shift.folding import LEVELS, floor


class Stretch(NamedTuple):
    """Consecutive ticks of one level, start <= tick < end."""

    minutes: int
    start: datetime
    end: datetime


def cover(
    start: datetime, end: datetime, made_until: Mapping[int, datetime], levels: Sequence[int] = LEVELS
) -> list[Stretch]:
    """Stretches that hold exactly the minutes from the one of `start` to the one before `end`, in order.

    Whole days and hours where they are made: of a year at most 365 ticks, of a month 110, of a day 80.
    Minutes that are no longer kept are missing at the edges of old windows.
    """
    *finer, minutes = levels
    if not finer:
        first, last = floor(start, minutes), _ceil(end, minutes)
        return [Stretch(minutes, first, last)] if first < last else []
    first = _ceil(floor(start, 1), minutes)
    last = floor(min(_ceil(end, 1), made_until[minutes]), minutes) if minutes in made_until else first
    if last <= first:
        return cover(start, end, made_until, finer)
    inner = Stretch(minutes, first, last)
    return [*cover(start, first, made_until, finer), inner, *cover(last, end, made_until, finer)]


def _ceil(at: datetime, minutes: int) -> datetime:
    below = floor(at, minutes)
    return below if below == at else below + timedelta(minutes=minutes)
