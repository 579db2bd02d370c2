"""Speed, as ratios in one run: `make bench`, or python -m tests.benchmarks --only write --repetitions 9.

CPU time counts; each pair is measured in turn, in a process of its own; the median of the ratios is
printed. `--all` adds what takes long or needs a broker or a PostgreSQL, and says what it skips where there
is none.
"""

from pipeline.models.process import keep_freed_memory

keep_freed_memory()  # as the command does, before any thread; the bare limits gain as much

# ruff: noqa: E402
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.benchmarks import decoding, memory, postgres, rows, scoring, stream, workers

Take = Callable[[Path, int], list[float]]


@dataclass(frozen=True)
class Measure:
    """A function that returns one value a repetition, and what the median of them should be."""

    take: Take
    title: str
    at_least: float | None = None
    at_most: float | None = None  # with neither of them, the value is published and nothing is asked of it

    @property
    def target(self) -> str:
        """The target as text."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"

    def is_met(self, value: float) -> bool:
        """Whether a median is what it should be."""
        return value >= (self.at_least or value) and value <= (self.at_most or value)


SHORT = {
    "resnet50": Measure(scoring.resnet50_over_forward, "pipeline / bare forward, ResNet-50, 224 px", at_least=0.95),
    "resnet20": Measure(scoring.resnet20_over_forward, "pipeline / bare forward, ResNet-20, 32 px", at_least=0.85),
    "null": Measure(scoring.worker_over_message_loop, "worker / per-message loop, null network", at_least=30),
    "energy": Measure(scoring.energy_over_forward, "energy / forward pass, ResNet-20", at_most=0.01),
    "residual": Measure(scoring.residual_over_forward, "energy + residual / forward pass, ResNet-20", at_most=0.01),
    "support": Measure(scoring.support_over_forward, "support / forward pass, ResNet-20", at_most=0.01),
    "evaluate50": Measure(scoring.evaluation50_over_forward, "evaluate / bare forward, ResNet-50, 224 px", at_most=1.1),
    "evaluate20": Measure(scoring.evaluation20_over_forward, "evaluate / bare forward, ResNet-20, 32 px"),
    "write": Measure(rows.core_over_bulk_sqlite, "row write / Core insert, SQLite, 1,024 rows", at_least=2),
    "decode": Measure(
        partial(decoding.photographs, width=224, height=224),
        "JPEG decode / Pillow, photographs, 224 x 224",
        at_least=1.8,
    ),
    "decode32": Measure(
        partial(decoding.photographs, width=32, height=32), "JPEG decode / Pillow, photographs, 32 x 32"
    ),
    "decode640": Measure(
        partial(decoding.photographs, width=640, height=480), "JPEG decode / Pillow, photographs, 640 x 480"
    ),
    "row": Measure(rows.bytes_per_row, "stored bytes an image: its row and indexes, SQLite"),
    "parts": Measure(rows.part_bytes_per_image, "stored bytes an image: roll-up, 50 segments", at_most=100),
}
#: What takes long, or needs a broker or a PostgreSQL.
LONG = {
    "memory": Measure(memory.last_over_second_minute, "resident size, minute 10 / minute 2", at_most=1.05),
    "growth": Measure(rows.grown_over_small_sqlite, "insert at 10 M rows / at 0.1 M, SQLite", at_most=1.3),
    "growth_pg": Measure(rows.grown_over_small_postgres, "insert at 10 M rows / at 0.1 M, PostgreSQL", at_most=1.3),
    "write_pg": Measure(postgres.copy_over_core_insert, "row write / Core insert, PostgreSQL, 1,024 rows", at_least=4),
    "transaction_pg": Measure(postgres.transaction_over_scores, "whole transaction / scores alone", at_most=1.5),
    "store_pg": Measure(postgres.store_over_scores, "all that the writer does / scores alone"),
    "consume1": Measure(partial(stream.consume_over_confluent, size=1_000), "consume / confluent-kafka, 1 KB"),
    "consume5": Measure(partial(stream.consume_over_confluent, size=5_000), "consume / confluent-kafka, 5 KB"),
    "consume50": Measure(partial(stream.consume_over_confluent, size=50_000), "consume / confluent-kafka, 50 KB"),
    "latency50": Measure(partial(stream.latency_ms, quantile=0.50), "record to row, ms, p50, Kafka to PostgreSQL"),
    "latency99": Measure(partial(stream.latency_ms, quantile=0.99), "record to row, ms, p99, Kafka to PostgreSQL"),
    "null_pg": Measure(stream.worker_over_message_loop, "worker / per-message loop, Kafka to PostgreSQL", at_least=30),
    "two": Measure(workers.two_over_one, "two workers / one on two cores, ResNet-50, Kafka to PostgreSQL, wall time"),
    "kafka20": Measure(stream.resnet20_over_forward, "Kafka to PostgreSQL / bare, ResNet-20, 32 px", at_least=0.85),
    "kafka50": Measure(stream.resnet50_over_forward, "Kafka to PostgreSQL / bare, ResNet-50, 224 px", at_least=0.95),
}


def main() -> int:
    """Print one line a measure; exit 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SHORT | LONG, action="append")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    names = arguments.only or list(SHORT | LONG if arguments.all else SHORT)
    if len(names) == 1:
        return _measure(names[0], arguments.repetitions, as_json=arguments.json)
    options = ["--repetitions", str(arguments.repetitions), *(["--json"] if arguments.json else [])]
    # A process each: how one leaves the heap decides what an array costs the next, by a third.
    alone = [[sys.executable, "-m", "tests.benchmarks", "--only", name, *options] for name in names]
    return max(subprocess.run(command, check=False).returncode for command in alone)


def _measure(name: str, repetitions: int, *, as_json: bool) -> int:
    measure = (SHORT | LONG)[name]
    try:
        with tempfile.TemporaryDirectory(prefix="oodwatch-bench-") as folder:
            values = measure.take(Path(folder), repetitions)
    except pytest.skip.Exception as skipped:
        print(f"{measure.title:<52} skipped: {skipped}", flush=True)  # noqa: T201
        return 0
    print(_line(name, measure, values, as_json=as_json), flush=True)  # noqa: T201
    return int(not measure.is_met(statistics.median(values)))


def _line(name: str, measure: Measure, values: list[float], *, as_json: bool) -> str:
    median, low, high = statistics.median(values), min(values), max(values)
    met = measure.is_met(median)
    if as_json:
        target = measure.at_least if measure.at_most is None else measure.at_most
        return json.dumps(
            {"measure": name, "median": median, "low": low, "high": high, "target": target}
            | ({} if target is None else {"met": met})
        )
    verdict = f"target {measure.target:<8}{'met' if met else 'MISSED'}" if measure.target else ""
    return f"{measure.title:<52} {median:9.4g}  ({low:.4g} .. {high:.4g})  {verdict}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
