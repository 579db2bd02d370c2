"""Do two workers on two cores do twice the work of one? From Kafka to PostgreSQL, ResNet-50, wall time."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Engine, text

from pipeline.settings import Settings
from pipeline.storage.engine import make_engine, reading
from tests.benchmarks.scoring import RESNET50
from tests.benchmarks.services import PARTITIONS, kafka_topic, postgres_database
from tests.benchmarks.stream import producer, send

PATIENCE_S = 300.0
_IMAGES = 192


def two_over_one(home: Path, repetitions: int) -> list[float]:
    """Images a second of two workers of one group over those of one, each on one thread; broker and database beside."""
    with kafka_topic(home) as url, postgres_database(home) as database, producer() as pool:
        settings = RESNET50.deployment(home, database=database, source=url)
        values = [picture.value or b"" for picture in RESNET50.pictures()] * (_IMAGES // RESNET50.images)
        engine = reading(make_engine(database))

        def seconds() -> float:
            """From the last acknowledged record to the last row."""
            wanted = _stored(engine) + len(values)
            pool.submit(send, url, values).result()
            began = time.perf_counter()
            _wait(lambda: _stored(engine) >= wanted)
            return time.perf_counter() - began

        with _workers(settings, engine, 1, lambda: pool.submit(send, url, values[:PARTITIONS]).result()):
            alone = [seconds() for _ in range(repetitions)]
        with _workers(settings, engine, 2, lambda: pool.submit(send, url, values[:PARTITIONS]).result()):
            together = [seconds() for _ in range(repetitions)]
        engine.dispose()
    return [one / two for one, two in zip(alone, together, strict=True)]


@contextlib.contextmanager
def _workers(settings: Settings, engine: Engine, count: int, wake: Callable[[], object]) -> Iterator[None]:
    """So many worker processes that share the partitions evenly."""
    command = [sys.executable, "-m", "pipeline", "worker", "--source", str(settings.source.url), "--from", "earliest"]
    command += ["--database", settings.database_url, "--model", str(settings.model), "--http", "off"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # noqa: TID251 the children inherit it
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(count)
    ]
    names = {f":{process.pid}" for process in processes}

    def shared() -> bool:
        wake()
        owners = _owners(engine)
        return {owners.count(name) for name in names} == {PARTITIONS // count}

    try:
        _wait(shared, every_s=2.0)  # each look sends a record a partition
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)


def _stored(engine: Engine) -> int:
    with engine.connect() as conn:
        return int(conn.scalar(text("SELECT coalesce(sum(scored + dead), 0) FROM stream")) or 0)


def _owners(engine: Engine) -> list[str]:
    """Process of each cursor."""
    with engine.connect() as conn:
        return [f":{owner.rsplit(':', 1)[1]}" for owner in conn.scalars(text("SELECT owner FROM stream"))]


def _wait(come_true: Callable[[], bool], every_s: float = 0.02) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not come_true():
        if time.monotonic() > give_up:
            raise TimeoutError(f"not so after {PATIENCE_S:g} s")
        time.sleep(every_s)
