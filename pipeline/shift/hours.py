"""Hours of accepted traffic, UTC: of the week, of the day, and joined until they hold enough images."""

from datetime import UTC, datetime

import numpy as np

from pipeline.records import Float64s, Ints

HOUR_US = 3_600_000_000
HOURS_OF_WEEK, HOURS_OF_DAY = 168, 24
_THURSDAY = 3  # the weekday of 1970-01-01
_SATURDAY = 5

HOUR_IMAGES = (
    500  # effective ones; below, an hour's bin borrows from its neighbours, and an hour is joined with the next
)


def hour_of_week(starts: Ints) -> Ints:
    """0..167 from Monday 00:00 UTC; starts in microseconds since 1970."""
    hours = np.asarray(starts) // HOUR_US
    return (hours // 24 + _THURSDAY) % 7 * 24 + hours % 24


def hour_bin(starts: Ints) -> Ints:
    """0..47: hour of day, weekdays before weekends."""
    hour = hour_of_week(starts)
    return hour % 24 + 24 * (hour // 24 >= _SATURDAY)


def hour_of(at: datetime) -> tuple[int, int]:
    """Hour of week and hour bin of an aware time."""
    at = at.astimezone(UTC)
    return at.weekday() * 24 + at.hour, at.hour + 24 * (at.weekday() >= _SATURDAY)


def full_hours(starts: Ints, n: Float64s, d: float) -> Ints:
    """The group of each tick: clock hours, joined until they hold 500 effective images. −1 past the last full one."""
    hours = np.cumsum(np.diff(starts // HOUR_US, prepend=starts[0] // HOUR_US) != 0)
    images = np.bincount(hours, n) / d
    group, held, groups = 0, 0.0, np.empty(len(images), dtype=np.int64)
    for hour, count in enumerate(images.tolist()):
        groups[hour] = group
        held += count
        if held >= HOUR_IMAGES:
            group, held = group + 1, 0.0
    groups[groups == group] = -1
    of_ticks: Ints = groups[hours]
    return of_ticks
