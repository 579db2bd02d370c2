"""What a tick costs: CPU time of one core, of the product's Detector."""

import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from pipeline.shift.detector import Detector
from pipeline.shift.histogram import expected_shares
from pipeline.shift.null import Null
from pipeline.shift.tick import Counts, Tick

_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
_YEAR, _DAY = 525_600, 1_440
_NULL = Null.from_reference_numbers(2_000, 0.05)
_SHARES = expected_shares(2_000)


@dataclass(frozen=True)
class Speed:
    """A cost, and what it may be."""

    what: str
    value: float
    unit: str
    at_most: float | None
    met: bool | None


def _parts(rng: np.random.Generator, segments: int) -> dict[str, Counts]:
    histograms = rng.poisson(6 * _SHARES, (segments, len(_SHARES))).astype(float)
    return {f"s{i}": Counts(float(h.sum()), float(h[14:].sum()), h) for i, h in enumerate(histograms)}


def wide_tick(segments: int = 10_000, repetitions: int = 5) -> list[Speed]:
    """A tick of many segments, with their histograms, and what each stream keeps."""
    rng = np.random.default_rng(0)
    detector = Detector(_NULL)
    detector.step(Tick(_MONDAY, 1, _parts(rng, segments)))
    taken = []
    for t in range(1, repetitions + 1):
        tick = Tick(_MONDAY + timedelta(minutes=t), 1, _parts(rng, segments))
        begun = time.process_time()
        detector.step(tick)
        taken.append(time.process_time() - begun)
    seconds = statistics.median(taken)
    streams = 2 * (segments + 1)
    return [
        Speed(f"a tick of {segments:,} segments", seconds, "s", 1.0, seconds <= 1),
        Speed("the same, a stream", seconds / streams * 1e6, "us", None, None),
        Speed("state as bytes, a stream", len(detector.snapshot()) / streams, "bytes", None, None),
    ]


def old_over_new(ticks: int = _YEAR) -> Speed:
    """A tick of one segment after a year (or `ticks`) over one after a day."""
    rng = np.random.default_rng(1)
    detector = Detector(_NULL)
    given = [_parts(rng, 1) for _ in range(_DAY)]

    def day(number: int) -> float:
        begun = time.process_time()
        for t, parts in enumerate(given):
            detector.step(Tick(_MONDAY + timedelta(minutes=number * _DAY + t), 1, parts))
        return time.process_time() - begun

    taken = [day(number) for number in range(ticks // _DAY)]
    ratio = statistics.median(taken[-5:]) / statistics.median(taken[1:6])
    return Speed(f"a tick after {ticks // _DAY} days / after one day", ratio, "x", 1.2, ratio <= 1.2)
