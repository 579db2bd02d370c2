"""How time is cut: windows of event time, half-open, and the buckets of a chart."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pipeline.shift.folding import LEVELS, floor, reaching

#: What a chart can show and a reader can see.
MOST_POINTS = 320
#: Cells of a row of the strip.
MOST_CELLS = 96

RANGES: Mapping[str, timedelta] = {
    "1 h": timedelta(hours=1),
    "6 h": timedelta(hours=6),
    "24 h": timedelta(hours=24),
    "7 d": timedelta(days=7),
    "14 d": timedelta(days=14),
    "90 d": timedelta(days=90),
}
_ENOUGH = 400  # images in a bucket
_FEWEST_POINTS = 24
_WIDTHS = (1, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080)  # minutes

MINUTE = timedelta(minutes=1)


class Window(NamedTuple):
    """[start, end) of event time, aware."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.end - self.start


class Cut(NamedTuple):
    """How a window is read: buckets of `width` minutes from ticks of `level` minutes."""

    width: int
    level: int

    @property
    def step(self) -> timedelta:
        """The width of a bucket."""
        return self.width * MINUTE


def cut(
    window: Window,
    oldest: Mapping[int, datetime],
    *,
    most: int = MOST_POINTS,
    band: bool = True,
    rate: float = math.inf,
) -> Cut:
    """The narrowest buckets of which a window has at most `most`, and the coarsest stored level that makes them.

    Where `rate` images come in a minute, a bucket is wide enough to hold some 400, or there are 24 of them: shares of
    a handful of images are noise.

    With `band`, the level is finer than the bucket where there is one: its lowest and highest tick are then shown.
    `oldest` says where each stored level begins; a level that begins after the window is not enough.
    """
    minutes = window.length / MINUTE
    usable = reaching(window.start, oldest) or [LEVELS[0]]
    enough = min(_ENOUGH / rate if rate else math.inf, minutes / _FEWEST_POINTS)
    weeks = _WIDTHS[-1] * max(1, math.ceil(minutes / most / _WIDTHS[-1]))  # of a link that asks for a century
    width = next((w for w in _WIDTHS if minutes / w <= most and w >= max(usable[0], 0.7 * enough)), weeks)
    whole = [level for level in usable if width % level == 0 and level <= width] or [usable[0]]
    finer = [level for level in whole if level < width]
    return Cut(width, max(finer) if band and finer else max(whole))


def coarse(window: Window, oldest: Mapping[int, datetime]) -> int:
    """The coarsest level of which a window has 60 ticks, so that its ends are right to 2 %; of old windows, for which
    no such ticks are kept, the finest that is."""
    finest = next(iter(reaching(window.start, oldest)), LEVELS[0])
    return max(finest, max((level for level in LEVELS if window.length / MINUTE / level >= 60), default=LEVELS[0]))


def aligned(window: Window, minutes: int) -> Window:
    """The window with its start on a bucket's start."""
    return Window(floor(window.start, minutes), window.end)


def live(length: timedelta, now: datetime) -> Window:
    """The window of that length that ends with the minute that runs."""
    end = floor(now, 1) + MINUTE
    return Window(end - length, end)


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970, as links and charts have them."""
    return int(at.timestamp() * 1000)


def from_ms(ms: int) -> datetime:
    """The inverse, aware UTC. Raises OverflowError or ValueError for what is no time."""
    return datetime.fromtimestamp(ms / 1000, UTC)
