"""What a row costs on PostgreSQL: CPU time of this thread and of the server's process that serves it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import patch

import psutil
from sqlalchemy import Connection, Engine, insert

from pipeline.records import Partition, Range, Record, ScoredBatch
from pipeline.stages import sink as sink_module
from pipeline.stages.cursors import Cursors
from pipeline.stages.flow import Flow, InFlight, PositionRequest
from pipeline.stages.retry import Retry
from pipeline.stages.sampling import Sampler, SamplingLimits
from pipeline.stages.sink import Sink
from pipeline.stages.writer import Writer
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import make_engine
from pipeline.storage.migrations.run import upgrade
from pipeline.storage.references import save_reference
from pipeline.storage.schema import ScoreRow, from_microseconds, to_microseconds
from pipeline.storage.scores import NewScore, insert_scores
from tests.faults.fake_log import FakeLog, FakeTopic
from tests.faults.scored import NOW, reference, score_ranges
from tests.services.postgres import PostgresServer

_BATCH = 1024
_BATCHES = 40  # the server's CPU time is known to 10 ms only
PARTITIONS = 4
_SEGMENTS = 8


def copy_over_core_insert(home: Path, repetitions: int) -> list[float]:
    """CPU time of SQLAlchemy Core's insert of 1,024 scores, over that of the sink's way."""
    ratios = []
    with _database(home) as engine:
        offsets = count()
        for repetition in range(-1, repetitions):  # the first one warms up
            rows = [[_row(next(offsets)) for _ in range(_BATCH)] for _ in range(_BATCHES)]
            typed = [[_typed(_row(next(offsets))) for _ in range(_BATCH)] for _ in range(_BATCHES)]
            copy = _cpu_s(engine, partial(_each, engine, rows, insert_scores))
            core = _cpu_s(
                engine, partial(_each, engine, typed, lambda conn, some: conn.execute(insert(ScoreRow), some))
            )
            if repetition >= 0:
                ratios.append(core / copy)
    return ratios


def transaction_over_scores(home: Path, repetitions: int) -> list[float]:
    """CPU time of a batch's whole transaction, its rows being ready, over that of its scores alone.

    1,024 images: cursors of four partitions, scores, roll-up parts of eight segments and one minute,
    samples, commit. "Alone" is a transaction that copies the scores.
    """
    return [(store - other) / alone for store, other, alone in _stores(home, repetitions)]


def store_over_scores(home: Path, repetitions: int) -> list[float]:
    """The same with all that the writer does besides: choosing samples, summing roll-ups, making rows."""
    return [store / alone for store, _, alone in _stores(home, repetitions)]


def _stores(home: Path, repetitions: int) -> Iterator[tuple[float, float, float]]:
    """CPU seconds of: storing batches; the part of it that is no SQL; copying as many scores alone."""
    with _database(home) as engine:
        log = FakeLog(PARTITIONS)
        writer = positioned_writer(engine, log)
        offsets = count(10**9)
        for repetition in range(-1, repetitions):  # the first one warms up
            batches = [next_batch(log) for _ in range(_BATCHES)]
            rows = [[_row(next(offsets)) for _ in range(_BATCH)] for _ in range(_BATCHES)]
            with _without_sql() as other_s:
                store_s = _cpu_s(engine, partial(_store, writer, batches))
            alone_s = _cpu_s(engine, partial(_each, engine, rows, insert_scores))
            if repetition >= 0:
                yield store_s, sum(other_s), alone_s
        assert writer.progress.scored == (repetitions + 1) * _BATCHES * _BATCH


@contextmanager
def _without_sql() -> Iterator[list[float]]:
    """CPU seconds of each call of what turns a scored batch into rows, or follows the commit."""
    spent: list[float] = []

    def timed(make: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **more: Any) -> Any:
            began = time.thread_time()
            try:
                return make(*arguments, **more)
            finally:
                spent.append(time.thread_time() - began)

        return wrapper

    names: list[tuple[object, str]] = [(Writer, "_entry"), (Writer, "_finish"), (Sampler, "draft")]
    names += [
        (sink_module, name) for name in ("advances", "score_rows", "dead_letter_rows", "part_rows", "sample_rows")
    ]
    with ExitStack() as stack:
        for owner, name in names:
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name))))
        yield spent


@contextmanager
def _database(home: Path) -> Iterator[Engine]:
    server = PostgresServer(home)
    try:
        server.start()
        engine = make_engine(server.url())
        upgrade(engine)
        with engine.begin() as conn:
            save_reference(conn, reference())
            ensure_deployment(conn, "d", model_id="m@0", reference_id=1, now=NOW)
        yield engine
        engine.dispose()
    finally:
        server.close()


def _cpu_s(engine: Engine, work: Callable[[], object]) -> float:
    """The pool holds one connection, so one server process does all the work."""
    with engine.connect() as conn:
        server = psutil.Process(conn.connection.dbapi_connection.info.backend_pid)  # type: ignore[union-attr]

    def now() -> float:
        times = server.cpu_times()
        return float(time.thread_time() + times.user + times.system)

    began = now()
    work()
    return now() - began


def _store(writer: Writer, batches: list[ScoredBatch]) -> None:
    for batch in batches:
        writer.store(batch)


def _core_insert(conn: Connection, rows: list[Any]) -> None:
    conn.execute(insert(ScoreRow), rows)


def _each(engine: Engine, batches: list[list[Any]], write: Callable[[Any, list[Any]], object]) -> None:
    for rows in batches:
        with engine.begin() as conn:
            write(conn, rows)


def _row(offset: int) -> NewScore:
    at = to_microseconds(NOW) + offset % 1_000_000
    name, digest = f"camera-1/{offset}.jpg", offset.to_bytes(32)
    return NewScore(1, offset, at, 1, 1, 1, name, None, None, digest, 3, -12.5, -12.5, 0.9, 0, 0, 0)


def _typed(row: NewScore) -> dict[str, Any]:
    flags = {name: bool(getattr(row, name)) for name in ("is_ood", "repeat", "drill")}
    return row._asdict() | flags | {"event_time": from_microseconds(row.event_time)}


def next_batch(log: FakeLog, size: int = _BATCH) -> ScoredBatch:
    """The next records of every partition, as the model thread hands them over."""
    ranges = []
    for number in range(PARTITIONS):
        place = Partition("images", log.topic_id, number)
        start = log.end(number)
        offsets = range(start, start + size // PARTITIONS)
        for offset in offsets:
            log.produce(number, offset.to_bytes(32))
        records = tuple(Record(place, offset, None, None, offset.to_bytes(32)) for offset in offsets)
        ranges.append(Range(partition=place, start=start, end=log.end(number), epoch=1, records=records))
    batch = score_ranges(ranges)
    images = tuple(
        replace(image, message=replace(image.message, segment=f"cam-{i % _SEGMENTS}", id=f"camera-1/{i}.jpg"))
        for i, image in enumerate(batch.images)
    )
    return replace(batch, images=images)


def positioned_writer(engine: Engine, log: FakeLog) -> Writer:
    """A writer that holds all partitions of the log and knows where each begins."""
    topic = FakeTopic(log)
    flow = Flow(InFlight(max_records=_BATCH, max_bytes=1 << 30, bytes_per_record=1))
    cursors = Cursors(
        engine,
        topic,
        flow,
        deployment_id=1,
        owner="w",
        start_at=lambda topic, bounds: bounds.beginning,
        isolation_span=1,
        clock=lambda: NOW,
    )
    writer = Writer(
        engine,
        topic,
        Sink(1, "w", 1000, 4),
        Sampler(SamplingLimits(), lambda image: None),
        cursors,
        flow=flow,
        retry=Retry(engine.url, Event(), progress=flow.progress),
        clock=lambda: NOW,
    )
    for number in range(PARTITIONS):
        flow.requests.put(PositionRequest(number, flow.fence.raise_epoch(number)))
    writer.answer_requests()
    return writer
