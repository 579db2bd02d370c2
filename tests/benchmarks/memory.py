"""Does a worker that is always full keep its size? `python -m tests.benchmarks.memory --minutes 3` is a shorter look.

The producer outruns the worker: whenever less than the backlog waits, it appends. Pictures differ in size
and segment, so that memory is asked for in pieces of all sizes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from sqlalchemy import Engine, text

from pipeline.ingest.source import NewRecord
from pipeline.ingest.spool import Retention, Spool
from pipeline.records import utc_now
from pipeline.settings import Settings
from pipeline.storage.engine import make_engine, reading
from tests.benchmarks.inputs import jpeg, null_deployment

SIDE = 96
BACKLOG = 16_384  # records that wait at least: eight times what the worker holds
KEPT_BYTES = 512 * 2**20  # of the spool on disk
MINUTE_S = 60.0


@dataclass(frozen=True)
class Sample:
    """The worker at one moment, counted from the first row it stored."""

    at_s: float
    resident_bytes: int
    waiting: int
    stored: int


@dataclass(frozen=True)
class Outcome:
    """Medians of one minute each, in MiB."""

    minute_2_mib: float
    last_minute_mib: float
    peak_mib: float
    least_waiting: int
    stored: int
    minutes: float

    @property
    def growth(self) -> float:
        """1.05 is five per cent more."""
        return self.last_minute_mib / self.minute_2_mib


def last_over_second_minute(home: Path, repetitions: int, *, minutes: float = 10.0) -> list[float]:
    """Resident size of the worker's process in its last minute over that in its second one; one run."""
    outcome = run(home, minutes)
    print(json.dumps(asdict(outcome)), file=sys.stderr, flush=True)  # noqa: T201
    return [outcome.growth]


def run(home: Path, minutes: float) -> Outcome:
    """Start a worker, keep it full for so many minutes (at least 2), sample it each second, end it in order."""
    torch.set_num_threads(1)
    settings = null_deployment(home, side=SIDE)
    spool = Spool(home / "spool", "images", partitions=4)
    engine = reading(make_engine(settings.database_url))
    process = subprocess.Popen(_command(settings), stdout=subprocess.DEVNULL, stderr=(home / "worker.log").open("w"))
    try:
        samples = _sampled(process, spool, engine, minutes * MINUTE_S)
        process.terminate()
        code_at_end = process.wait(60)
    finally:
        process.kill()
        process.wait()
        engine.dispose()
        spool.close()
    if code_at_end != 0:
        raise RuntimeError(f"the worker ended with {code_at_end}: {(home / 'worker.log').read_text()[-2000:]}")
    return _outcome(samples, minutes)


def _sampled(process: "subprocess.Popen[bytes]", spool: Spool, engine: Engine, seconds: float) -> list[Sample]:
    pictures = _pictures()
    worker = psutil.Process(process.pid)
    samples: list[Sample] = []
    produced, began, next_sample = 0, None, 0.0
    while not samples or samples[-1].at_s < seconds:
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended by itself with {process.returncode}")
        stored = _stored(engine)
        now = time.monotonic()
        if began is None and stored:
            began = now
        if began is not None and now >= next_sample:
            samples.append(Sample(now - began, worker.memory_info().rss, produced - stored, stored))
            next_sample = now + 1.0
            if len(samples) % 15 == 0:
                spool.apply_retention(Retention(max_bytes=KEPT_BYTES), now=utc_now())
        if produced - stored < BACKLOG:
            spool.append(pictures)
            produced += len(pictures)
        else:
            time.sleep(0.1)
    return samples


def _pictures() -> list[NewRecord]:
    """2,048 records of 256 pictures from 96 x 96 to 256 x 256, in 20 segments."""
    sides = np.random.default_rng(0).integers(SIDE, 257, size=(256, 2)).tolist()
    values = [jpeg(width, height, seed) for seed, (width, height) in enumerate(sides)]
    return [NewRecord(values[i % 256], headers=(("segment", b"camera-%d" % (i % 20)),)) for i in range(2048)]


def _stored(engine: Engine) -> int:
    with engine.connect() as conn:
        return int(conn.scalar(text("SELECT coalesce(sum(scored + dead), 0) FROM stream")) or 0)


def _command(settings: Settings) -> list[str]:
    command = [sys.executable, "-m", "pipeline", "worker", "--source", str(settings.source.url)]
    return [*command, "--database", settings.database_url, "--model", str(settings.model), "--from", "earliest"]


def _outcome(samples: list[Sample], minutes: float) -> Outcome:
    def median_mib(first_s: float) -> float:
        sizes = [s.resident_bytes for s in samples if first_s <= s.at_s < first_s + MINUTE_S]
        return round(statistics.median(sizes) / 2**20, 1)

    return Outcome(
        minute_2_mib=median_mib(MINUTE_S),
        last_minute_mib=median_mib((minutes - 1) * MINUTE_S),
        peak_mib=round(max(s.resident_bytes for s in samples) / 2**20, 1),
        least_waiting=min(s.waiting for s in samples),
        stored=samples[-1].stored,
        minutes=minutes,
    )


def main() -> int:
    """One run of any length; exit 1 where the worker grew by five per cent or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oodwatch-memory-") as folder:
        outcome = run(Path(folder), max(2.0, arguments.minutes))
    print(json.dumps(asdict(outcome) | {"growth": round(outcome.growth, 4)}))  # noqa: T201
    return int(outcome.growth >= 1.05)


if __name__ == "__main__":
    sys.exit(main())
