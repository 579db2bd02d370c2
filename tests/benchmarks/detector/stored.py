"""What a run of the monitor costs with a year of ticks in the database, as against a day: CPU time of one core."""

import statistics
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import insert, select

from pipeline.shift.folding import LEVELS, floor
from pipeline.storage.engine import open_database
from pipeline.storage.monitoring import note_made
from pipeline.storage.schema import TickRow
from pipeline.storage.ticks import TickRetention
from tests.benchmarks.detector.speed import Speed
from tests.monitored import MINUTE, T0, Traffic, monitor

_SEGMENTS = 10
_MINUTES = 30  # of traffic measured
_KEPT = TickRetention()
_LEVELS = {1: _KEPT.minute, 5: _KEPT.five_minutes, 60: _KEPT.hour}


def year_over_day(repetitions: int = 5, *, year: timedelta = timedelta(days=365)) -> Speed:
    """A minute of ten segments folded, evaluated (by a detector that only adds up) and rolled up, on SQLite."""
    taken = {days: [_cost(days) for _ in range(repetitions)] for days in (timedelta(days=1), year)}
    ratio = statistics.median(taken[year]) / statistics.median(taken[timedelta(days=1)])
    return Speed(f"a minute stored after {year.days} days / after one", ratio, "x", 1.2, ratio <= 1.2)


def _cost(history: timedelta) -> float:
    """Seconds a minute, with ticks of all levels before it as retention would have left them."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{Path(folder) / 'ticks.db'}")
        traffic = Traffic(engine, segments=_SEGMENTS)
        traffic.minutes(60)  # all levels begin, and their columns can be copied
        monitor(engine, T0 + 60 * MINUTE).run()
        with engine.begin() as conn:
            note_made(conn, traffic.deployment_id, LEVELS[-1], floor(T0, LEVELS[-1]))
            like = conn.execute(select(TickRow.__table__).where(TickRow.minutes == 1).limit(_SEGMENTS + 1)).all()
            for minutes, kept in _LEVELS.items():
                starts = _starts(min(history, kept), minutes)
                for chunk in range(0, len(starts), 1_000):
                    rows = [
                        {**row._asdict(), "minutes": minutes, "start": start}
                        for row in like
                        for start in starts[chunk : chunk + 1_000]
                    ]
                    conn.execute(insert(TickRow), rows)
        parts = [
            [traffic.part(T0 + at * MINUTE, at * 100 + s, segment=s) for s in range(_SEGMENTS)]
            for at in range(60, 60 + _MINUTES)
        ]
        seconds = 0.0
        for at, of_minute in enumerate(parts, 61):
            traffic.write(row for part in of_minute for row in part)
            traffic.move(T0 + at * MINUTE)
            watching = monitor(engine, T0 + at * MINUTE)
            begun = time.process_time()
            watching.run()
            seconds += time.process_time() - begun
        engine.dispose()
    return seconds / _MINUTES


def _starts(history: timedelta, minutes: int) -> list[datetime]:
    count = (history - 60 * MINUTE) // timedelta(minutes=minutes)  # what is older has gone when the measuring begins
    return [T0 - (i + 1) * timedelta(minutes=minutes) for i in range(count)]
