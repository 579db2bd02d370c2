"""What a row costs to write and to keep."""

import statistics
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, insert, text

from pipeline.shift.histogram import fine_edges, rank_edges
from pipeline.shift.rollup import encode, summarise_groups
from pipeline.storage.engine import open_database
from pipeline.storage.partitions import day_of, ensure_days
from pipeline.storage.schema import ScoreRow, from_microseconds
from pipeline.storage.scores import NewScore, insert_scores
from tests.benchmarks.services import postgres_database
from tests.benchmarks.timing import database_cpu_s, thread_cpu_s

BATCH = 1024
PART_ROW_OVERHEAD = 30  # bytes of a roll-up row's keys in SQLite

SMALL, GROWN = 100_000, 10_000_000  # rows

Write = Callable[[Connection, list[Any]], object]


def new_score(number: int) -> NewScore:
    """A row as the worker writes it: four partitions, 1,000 images a second, an id, no key and no label."""
    return NewScore(
        1 + number % 4, number // 4, 1_700_000_000_000_000 + number * 1_000, 1, 1 + number % 50, 1,
        f"camera-1/{number:09d}.jpg", None, None, number.to_bytes(32, "big"), number % 10,
        -12.5 + number % 997 / 100, -12.5 + number % 997 / 100, 0.9, int(number % 20 == 0), 0, 0,
        0.7 + number % 97 / 400,
    )  # fmt: skip


def core_over_bulk_sqlite(home: Path, repetitions: int) -> list[float]:
    """CPU time of SQLAlchemy Core's insert of batches of 1,024 rows, over that of the sink's way; SQLite."""
    engine = open_database(_sqlite(home))
    ratios = []
    for repetition in range(-1, repetitions):  # the first one, which compiles the statements, does not count
        first = (repetition + 1) * 20 * BATCH
        rows = [new_score(first + i) for i in range(10 * BATCH)]
        typed = [_typed(new_score(first + 10 * BATCH + i)) for i in range(10 * BATCH)]
        bulk = thread_cpu_s(partial(write_in_batches, engine, rows, insert_scores))
        core = thread_cpu_s(partial(write_in_batches, engine, typed, _core_insert))
        ratios.append(core / bulk)
    engine.dispose()
    return ratios[1:]


def grown_over_small_sqlite(home: Path, repetitions: int) -> list[float]:
    """CPU time a row at 10 million rows over that at 0.1 million; one build, medians of 20 batches; SQLite."""
    return [_growth(_sqlite(home))]


def grown_over_small_postgres(home: Path, repetitions: int) -> list[float]:
    """The same on PostgreSQL; client and server count."""
    with postgres_database(home) as url:
        return [_growth(url)]


def bytes_per_row(home: Path, repetitions: int) -> list[float]:
    """Bytes of the table `score` with its indexes in a SQLite file, over its 100,000 rows."""
    results = []
    rows = 100_000
    for repetition in range(repetitions):
        path = home / f"{repetition}.db"
        engine = open_database(f"sqlite:///{path}")
        with engine.connect() as conn:
            empty = _file_bytes(conn)
        write_in_batches(engine, [new_score(i) for i in range(rows)], insert_scores)
        with engine.connect() as conn:
            results.append((_file_bytes(conn) - empty) / rows)
        engine.dispose()
    return results


def part_bytes_per_image(home: Path, repetitions: int) -> list[float]:
    """Stored bytes of the roll-up parts of a batch of 256 over 50 segments, keys included."""
    results = []
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        calibration = np.sort(rng.normal(-14, 5, 2000))
        scores = rng.normal(-14, 5, 256)
        batch: dict[str, Any] = {
            "scores": scores,
            "energies": scores,
            "flags": scores > -6,
            "class_index": rng.integers(0, 10, 256),
            "properties": rng.random((256, 5)),
            "repeats": rng.random(256) < 0.01,
            "late_clocks": rng.random(256) < 0.01,
            "edges": rank_edges(calibration),
            "fine_edges": fine_edges(calibration),
            "n_classes": 10,
            "support": rng.random(256),
        }
        segments = summarise_groups(rng.integers(0, 50, 256), 50, projected=None, **batch)
        pooled = summarise_groups(np.zeros(256, np.int64), 1, projected=rng.normal(size=(256, 16)), **batch)
        parts = [part for part in segments + pooled if part.n]
        results.append(sum(len(encode(part)) + PART_ROW_OVERHEAD for part in parts) / 256)
    return results


def write_in_batches(engine: Engine, rows: list[Any], write: Write, batch: int = BATCH) -> None:
    """One transaction per batch, as the worker commits them."""
    for first in range(0, len(rows), batch):
        with engine.begin() as conn:
            write(conn, rows[first : first + batch])


def _growth(url: str) -> float:
    engine = open_database(url)
    _make_days(engine, new_score(0), new_score(GROWN + 40 * BATCH))
    rows, costs = 0, []
    for size in (SMALL, GROWN):
        while rows < size:
            portion = [new_score(rows + i) for i in range(min(16 * BATCH, size - rows))]
            write_in_batches(engine, portion, insert_scores, batch=len(portion))
            rows += len(portion)
        batches = []
        for _ in range(20):
            portion = [new_score(rows + i) for i in range(BATCH)]
            batches.append(database_cpu_s(engine, partial(write_in_batches, engine, portion, insert_scores)))
            rows += BATCH
        costs.append(statistics.median(batches))
    engine.dispose()
    return costs[1] / costs[0]


def _make_days(engine: Engine, first: NewScore, last: NewScore) -> None:
    with engine.begin() as conn:
        ensure_days(conn, range(day_of(first.event_time), day_of(last.event_time) + 1))


def _sqlite(home: Path) -> str:
    return f"sqlite:///{home / 'rows.db'}"


def _core_insert(conn: Connection, rows: list[dict[str, Any]]) -> None:
    conn.execute(insert(ScoreRow), rows)


def _typed(row: NewScore) -> dict[str, Any]:
    """The same row in the types of the schema, as SQLAlchemy Core takes it."""
    values: dict[str, Any] = row._asdict()
    event_time: datetime = from_microseconds(row.event_time)
    return values | {
        "event_time": event_time,
        "is_ood": bool(row.is_ood),
        "repeat": bool(row.repeat),
        "drill": bool(row.drill),
    }


def _file_bytes(conn: Connection) -> int:
    return int(conn.scalar(text("PRAGMA page_count")) or 0) * int(conn.scalar(text("PRAGMA page_size")) or 0)
