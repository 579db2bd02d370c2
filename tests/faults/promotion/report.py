"""What a promotion cost: the gap between the last batch of the old model and the first of the new one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, text

from tests.faults.soak.journal import Journal, Place
from tests.faults.soak.records import energies_of, is_poison


@dataclass(frozen=True)
class Pauses:
    """Of all workers."""

    batches: int
    swaps: int
    batch_ms: tuple[float, float, float]  # median, 95 %, longest: a forward pass with all around it
    idle_ms: tuple[float, float, float]  # between two batches of one model
    swap_ms: tuple[float, float]  # between two batches of two models: median, longest


def pauses(files: Sequence[Path]) -> Pauses:
    """From what the workers noted of their batches."""
    lengths: list[float] = []
    idle: list[float] = []
    swaps: list[float] = []
    for file in files:
        batches = [json.loads(line) for line in file.read_text().splitlines()]
        lengths += [batch["ended"] - batch["began"] for batch in batches]
        for before, after in pairwise(batches):
            gap = after["began"] - before["ended"]
            (idle if before["model"] == after["model"] else swaps).append(gap)
    median, high = np.median(lengths), np.quantile(lengths, 0.95)
    return Pauses(
        batches=len(lengths),
        swaps=len(swaps),
        batch_ms=(_ms(median), _ms(high), _ms(max(lengths))),
        idle_ms=(_ms(np.median(idle)), _ms(np.quantile(idle, 0.95)), _ms(max(idle))),
        swap_ms=(_ms(np.median(swaps)), _ms(max(swaps))),
    )


@dataclass(frozen=True)
class Rows:
    """Scored records by the model that they name."""

    by_model: dict[str, int]
    ambiguous: int  # rows whose energy another model would have given, too
    same_bytes: int  # images scored by the first model before and after: rows with the very same energy
    twice: int  # such images


def rows_by_model(engine: Engine, journal: Journal, weights: dict[str, Path], base: str) -> Rows:
    """Read anew; nothing of the product is asked."""
    statement = (
        'SELECT s.topic_id, s.partition, r."offset", r.energy, f.model_id FROM score r'
        " JOIN stream s ON s.id = r.stream_id JOIN reference f ON f.id = r.reference_id"
    )
    with engine.connect() as conn:
        rows = [(Place(*row[:3]), row[3], row[4]) for row in conn.execute(text(statement))]
    rows = [row for row in rows if not is_poison(journal.acknowledged[row[0]])]
    numbers = [journal.acknowledged[place] for place, _, _ in rows]
    found = np.array([energy for _, energy, _ in rows])
    near = sum((np.abs(energies_of(numbers, file) - found) < 1e-4).astype(int) for file in weights.values())
    counts = {model: sum(named == model for _, _, named in rows) for model in weights}
    by_number: dict[int, list[float]] = {}
    for number, (_, energy, model) in zip(numbers, rows, strict=True):
        if model == base:
            by_number.setdefault(number, []).append(energy)
    pairs = [energies for energies in by_number.values() if len(energies) > 1]
    same = sum(len(set(energies)) == 1 for energies in pairs)
    return Rows(counts, int((np.asarray(near) != 1).sum()), same, len(pairs))


def _ms(seconds: float) -> float:
    return round(1000 * float(seconds), 2)
