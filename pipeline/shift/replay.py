"""Ticks from JSON lines, and what the detector says of them: no database, no reference's content."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.records import Float64s
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.detector import Detector
from pipeline.shift.histogram import BINS
from pipeline.shift.null import Null
from pipeline.shift.tick import Counts, Sums, Tick
from pipeline.shift.verdict import StreamVerdict

_MOST = 1e15  # images; floats count exactly up to there
_LONGEST = 44_640  # minutes
_LAST_YEAR = 9998  # of the calendar that a tick can end in
_ROUNDING = 1e-6  # of n, by which a histogram of fractional counts may miss it


def replay(
    ticks: Iterable[Tick], null: Null, budget: Budget, thresholds: Thresholds
) -> Iterator[tuple[Tick, list[StreamVerdict]]]:
    """The verdicts after each tick, of one detector that knows all segments from the start.

    Streams of the histogram are left out where no tick has one. Raises RefusedError where normal traffic may
    reach the warning level.
    """
    ticks = list(ticks)
    names = dict.fromkeys(name for tick in ticks for name in tick.segments)
    scored = any(part.histogram is not None for tick in ticks for part in tick.segments.values())
    for tick, verdicts in run(ticks, Detector(null, budget=budget, thresholds=thresholds, segments=names)):
        yield tick, verdicts if scored else [one for one in verdicts if not one.stream.startswith("histogram")]


def run(ticks: Iterable[Tick], detector: Detector) -> Iterator[tuple[Tick, list[StreamVerdict]]]:
    """The verdicts after each tick, as the ticks come."""
    for tick in ticks:
        yield tick, detector.step(tick)


def verdict_line(tick: Tick, verdict: StreamVerdict) -> dict[str, object]:
    """One line a tick and stream, as `oodwatch replay --json` prints it."""
    return {
        "start": tick.start,
        "stream": verdict.stream,
        "state": verdict.state,
        "log_evidence": verdict.log_evidence,
        "onset": verdict.onset,
        "share": verdict.share,
        "low": verdict.low,
        "high": verdict.high,
    }


@dataclass(frozen=True, slots=True)
class Change:
    """A stream that changed its state, for people."""

    start: datetime
    stream: str
    change: str
    log_evidence: float
    onset: datetime | None
    share: float | None
    low: float | None
    high: float | None
    leading: str


def changes(verdicts: Iterable[tuple[Tick, list[StreamVerdict]]]) -> Iterator[Change]:
    """Every change of state, in order."""
    for tick, streams in verdicts:
        for one in streams:
            if (moved := one.transition) is not None:
                step = f"{moved.before} → {moved.after}"
                since = (one.onset, one.share, one.low, one.high)
                yield Change(tick.start, one.stream, step, one.log_evidence, *since, moved.leading)


def read_ticks(lines: Iterable[str]) -> list[Tick]:
    """Ticks of JSON lines, one a tick and segment, in order of time; empty lines are skipped.

    A line: {"start": ISO, "minutes", "segment", "n", "flagged", "histogram": [18]?}; other keys are ignored.
    Raises UsageError with the number of the line that is wrong.
    """
    ticks: list[Tick] = []
    parts: dict[str, Sums] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = _object(text)
            start, minutes, segment = _start(line), _minutes(line), _segment(line)
            if not ticks or start != ticks[-1].start:
                _check_order(start, ticks)
                parts = {}
                ticks.append(Tick(start, minutes, parts))
            elif minutes != ticks[-1].minutes:
                raise _Wrong(f"minutes = {minutes:g}, where the tick of {_iso(start)} has {ticks[-1].minutes:g} so far")
            if segment in parts:
                raise _Wrong(f"segment {segment!r} stands twice in the tick of {_iso(start)}; add the two up")
            parts[segment] = _counts(line)
        except _Wrong as wrong:
            raise UsageError(f"line {number}: {wrong}") from wrong
    return ticks


class _Wrong(Exception):
    """What is wrong with a line."""


def _object(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise _Wrong(f"is no JSON: {error}") from error
    if not isinstance(line, dict):
        raise _Wrong(f"{text.strip()[:60]!r} is no JSON object")
    return line


def _start(line: dict[str, Any]) -> datetime:
    text = line.get("start")
    try:
        start = datetime.fromisoformat(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise _Wrong(f"start = {text!r}: write an ISO time, as 2026-11-24T03:00:00Z") from error
    if start.year > _LAST_YEAR:
        raise _Wrong(f"start = {text!r}: write a year up to {_LAST_YEAR}")
    if start.tzinfo is None:
        raise _Wrong(f"start = {text!r} has no time zone; for UTC write {text}Z")
    return start.astimezone(UTC)


def _segment(line: dict[str, Any]) -> str:
    name = line.get("segment")
    if not isinstance(name, str) or not name:
        raise _Wrong(f"segment = {name!r}: write a name")
    return name


def _check_order(start: datetime, ticks: list[Tick]) -> None:
    if not ticks:
        return
    last = ticks[-1]
    end = last.start + timedelta(minutes=last.minutes)
    if start < last.start:
        raise _Wrong(f"start {_iso(start)} goes back behind {_iso(last.start)}; sort the lines by start")
    if start < end:
        raise _Wrong(f"start {_iso(start)} overlaps the tick of {_iso(last.start)}, which lasts until {_iso(end)}")


def _counts(line: dict[str, Any]) -> Counts:
    n, flagged = _number(line, "n"), _number(line, "flagged")
    if flagged > n:
        raise _Wrong(f"flagged = {flagged:g} of n = {n:g} images: more flags than images")
    return Counts(n, flagged, _histogram(line, n))


def _histogram(line: dict[str, Any], n: float) -> Float64s | None:
    values = line.get("histogram")
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != BINS:
        raise _Wrong(f"histogram = {json.dumps(values)[:60]}: write {BINS} counts, or leave it out")
    counts = np.array([_checked(value, f"histogram[{b}]") for b, value in enumerate(values)])
    if abs(counts.sum() - n) > _ROUNDING * max(1, n):
        raise _Wrong(f"the histogram holds {counts.sum():g} images, n = {n:g}")
    return counts


def _number(line: dict[str, Any], name: str) -> float:
    if name not in line:
        raise _Wrong(f"has no {name}")
    return _checked(line[name], name)


def _minutes(line: dict[str, Any]) -> float:
    minutes = _number(line, "minutes")
    if minutes == 0:
        raise _Wrong("minutes = 0: must be above 0")
    if minutes > _LONGEST:
        raise _Wrong(f"minutes = {minutes:g}: must be at most {_LONGEST}, a month")
    return minutes


def _checked(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        raise _Wrong(f"{name} = {json.dumps(value)[:60]}: must be a number from 0 to {_MOST:g}")
    return float(value)


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
