"""Days of `score` on PostgreSQL: made ahead or when a row needs one, dropped whole when they are too old.

A day is the unit of retention: dropping one is a file removed, where deleting its rows would write as
much again. On SQLite there are no partitions and these functions do nothing.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from pipeline.storage.schema import to_microseconds

_DAY_US = timedelta(days=1) // timedelta(microseconds=1)
_AHEAD_DAYS = 7
_NAME = re.compile(r"score_\d{8}")


def day_of(event_time_us: int) -> int:
    """The day of an event time in microseconds, counted from 1970-01-01, UTC."""
    return event_time_us // _DAY_US


def ensure_days(conn: Connection, days: Iterable[int]) -> int:
    """Make the partitions that are missing, in the caller's transaction; return how many.

    Safe among any number of workers: the second one waits for the first and finds the day. Nobody
    who reads or writes `score` waits. Asked with every batch, it costs one round trip, and so no
    record can be too old or too new to find a place.
    """
    if conn.dialect.name != "postgresql":
        return 0
    return conn.scalar(text("SELECT create_score_days(CAST(:days AS integer[]))"), {"days": sorted(days)}) or 0


def ensure_days_ahead(conn: Connection, *, now: datetime) -> int:
    """Make today and the next week, so that midnight is no different from any other moment."""
    today = day_of(to_microseconds(now))
    return ensure_days(conn, range(today, today + _AHEAD_DAYS + 1))


def drop_expired_day(conn: Connection, horizon: datetime) -> int:
    """Drop the oldest day that lies wholly before the horizon; return how many were, 1 or 0.

    Everybody who uses `score` has to be locked out for a moment: dropping 1 M rows took 0.35 s, but the
    file goes after the commit and no writer waited longer than before. It fails with a lock timeout
    when a reader is longer than 0.2 s, for writers queue behind it: to be tried again a minute later.
    DETACH CONCURRENTLY was no quicker, and it needs the owner and transactions of its own; deleting the
    rows took 2.9 s and leaves the space to VACUUM.
    """
    if conn.dialect.name != "postgresql":
        return 0
    return conn.scalar(text("SELECT drop_score_day(:before)"), {"before": day_of(to_microseconds(horizon))}) or 0


def is_no_partition(_object: object, name: str | None, type_: str, _reflected: bool, _compare_to: Any) -> bool:
    """For Alembic's `include_object`: partitions and their indexes are data, not schema."""
    return not (type_ == "table" and _NAME.fullmatch(name or ""))
