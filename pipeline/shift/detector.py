"""The detector of one deployment and reference: all signals, one false-alarm budget.

    tick ──► advance: evidence of every stream ──► decide: transitions, at most one a stream
                      snapshot / restore: the same bits back

Pure: no clock, no randomness, no I/O. The same ticks give the same verdicts, bit for bit, whether or
not the state went through bytes in between, and in whatever order a tick lists its segments.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RefusedError, UsageError
from pipeline.records import Float64s
from pipeline.shift import auxiliary, ladder
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.coverage import close_block, fill_block, new_block
from pipeline.shift.evidence import Streams, clock, flag_increments
from pipeline.shift.fdr import e_bh
from pipeline.shift.ladder import R_DOWN, Flags
from pipeline.shift.null import Null, Premise
from pipeline.shift.signals import (
    class_increments,
    coverage_increments,
    histogram_increments,
    rate_increments,
    signals_of,
)
from pipeline.shift.silence import Silence, silence
from pipeline.shift.snapshot import fingerprint, pack, unpack, unpack_arrays
from pipeline.shift.tick import Table, Tick, class_counts, from_us, new_names, table, to_us, with_all_traffic
from pipeline.shift.verdict import StreamVerdict, auxiliary_verdicts, ladder_verdicts


class Detector:
    """Says after every tick what each stream is: ok, or shifted, and since when.

    A deployment with one segment has the streams of all traffic only; from the second on, every segment
    has its own, which start with no evidence. Raises RefusedError where normal traffic may reach the
    warning level.

    Args:
        segments: those known before the first tick. Others are taken up as they come; whoever makes the
            ticks bounds their number.
    """

    def __init__(
        self,
        null: Null,
        *,
        budget: Budget | None = None,
        thresholds: Thresholds | None = None,
        segments: Iterable[str] = (),
    ) -> None:
        self.null = null
        self.budget = budget or Budget()
        self.thresholds = thresholds or Thresholds()
        null.check(self.thresholds)
        self._rows: dict[str, int] = {}
        self._end: int | None = None
        self._ladder = ladder.new_streams(1)
        rate = null.baseline is not None and any(null.baseline.rates)
        self._signals = signals_of(null.histogram, null.classes, null.coverage, self.budget, rate=rate)
        self._block = new_block(0 if null.coverage is None else len(null.coverage.mean))
        self._premise: tuple[object, Premise] | None = None
        self._penalty: Float64s | None = None
        self._add(segments)

    @property
    def segments(self) -> tuple[str, ...]:
        """Those known so far."""
        return tuple(self._rows)

    @property
    def end(self) -> datetime | None:
        """End of the last tick; None before the first."""
        return None if self._end is None else from_us(self._end)

    @cached_property
    def configuration(self) -> str:
        """A hash of null, budget and thresholds: state of another one cannot be gone on with."""
        return fingerprint(self.null, self.budget, self.thresholds)

    @property
    def provisional(self) -> bool:
        """What is raised is shown and never paged."""
        return self.null.provisional

    def step(self, tick: Tick) -> list[StreamVerdict]:
        """Take in one tick and decide. Raises UsageError for a tick that begins before the last one's end."""
        self.advance(tick)
        return self.decide()

    def advance(self, tick: Tick) -> None:
        """Take in one tick without deciding: for ticks that were revised after their decision.

        From a checkpoint on, advance over all of them and decide once, at the newest: deciding at each
        would be extra looks. Raises UsageError as `step` does.
        """
        t = self._accept(tick)
        counts = table(tick, self._rows)
        premise = self._premise_of(tick.start)
        d = self._of_streams(premise.d_pooled, premise.d)
        self._observe_flags(t, tick.minutes, counts, premise, d)
        if "histogram" in self._signals:
            self._observe_histograms(t, tick.minutes, counts.histograms, d)
        n = float(counts.n.sum())
        if n > 0:
            k = np.array([counts.k.sum() / premise.d_pooled])
            increments = flag_increments(k, np.array([n / premise.d_pooled]), np.array([premise.low]), R_DOWN)
            self._signals["low"].observe(t, tick.minutes, self._spent(tick.minutes, n / premise.d_pooled), increments)
        if "rate" in self._signals and premise.rate is not None:
            increments = rate_increments(n, tick.minutes, premise.rate)
            self._signals["rate"].observe(t, tick.minutes, tick.minutes, increments)
        self._observe_classes(t, tick)
        self._observe_coverage(t, tick)

    def decide(self) -> list[StreamVerdict]:
        """The verdict of every stream, after at most one transition each."""
        null, warning = ladder.log_evidence(self._ladder)
        over, over_warning = (self._over(log_m, "pooled", "segments") for log_m in (null, warning))
        decision = ladder.decide(self._ladder, null, over, over_warning, self.budget, self.thresholds)
        learning = self.null.learning
        verdicts = ladder_verdicts(self._names("pooled", "segment"), decision, learning=learning)
        for name, signal in self._signals.items():
            evidence = signal.evidence()
            crossings = signal.decide(evidence, self._over(evidence, name, "histogram_segments"))
            names = self._names(name, name)[: len(evidence)]
            verdicts += auxiliary_verdicts(names, signal.components, crossings, learning=learning)
        return verdicts

    def silence(self, *, last_image: datetime, now: datetime) -> Silence | None:
        """Whether no image for so long is news, by arrival and processing time; None while the rate is unknown."""
        if self.null.baseline is None:
            return None
        return silence(self.null.baseline, self.budget, last_image=last_image, now=now)

    def snapshot(self) -> bytes:
        """The whole state; `restore` gives the same bits back."""
        arrays = self._arrays()
        header = {
            "configuration": self.configuration,
            "segments": list(self._rows),
            "end": self._end,
            "counts": [len(array) for array in arrays],
        }
        return pack(header, arrays)

    @classmethod
    def restore(
        cls, content: bytes, null: Null, *, budget: Budget | None = None, thresholds: Thresholds | None = None
    ) -> "Detector":
        """The detector that a snapshot was taken of.

        Raises CorruptState for other bytes, RefusedError for the state of another null, budget or thresholds.
        """
        detector = cls(null, budget=budget, thresholds=thresholds)
        header, body = unpack(content)
        if header["configuration"] != detector.configuration:  # before its arrays, which may be others
            raise RefusedError(
                f"detector state of configuration {header['configuration']}, this one is {detector.configuration}:"
                " reference, baseline, budget or thresholds changed; start the detector anew"
            )
        arrays = unpack_arrays(body, header["counts"], [array.dtype for array in detector._arrays()])
        detector._rows = {name: row for row, name in enumerate(header["segments"])}
        detector._end = header["end"]
        detector._ladder, detector._block, *streams = arrays
        for signal, array in zip(detector._signals.values(), streams, strict=True):
            signal.streams = array
        return detector

    def _arrays(self) -> list[Streams]:
        return [self._ladder, self._block, *(signal.streams for signal in self._signals.values())]

    def _accept(self, tick: Tick) -> int:
        t = to_us(tick.start)
        if self._end is not None and t < self._end:
            raise UsageError(
                f"tick {tick.start.isoformat()} begins before the last one ended, {from_us(self._end).isoformat()}:"
                " ticks are taken in once, in order of time"
            )
        self._add(new_names(tick, self._rows))
        self._end = t + round(tick.minutes * 60_000_000)
        return t

    def _add(self, names: Iterable[str]) -> None:
        known = len(self._rows)
        for name in names:
            self._rows.setdefault(name, len(self._rows))
        if len(self._rows) == known:
            return
        self._premise = self._penalty = None
        count = 1 + len(self._rows) if self._split else 1
        self._ladder = np.concatenate([self._ladder, ladder.new_streams(count - len(self._ladder))])
        if "histogram" in self._signals:
            self._signals["histogram"].grow(count)

    @property
    def _split(self) -> bool:
        return len(self._rows) > 1

    def _names(self, pooled: str, segment: str) -> list[str]:
        return [pooled, *(f"{segment}:{name}" for name in self._rows)] if self._split else [pooled]

    def _of_streams(self, pooled: float, segments: Float64s) -> Float64s:
        """One value a stream: all traffic, then the segments where they have streams."""
        return np.concatenate([[pooled], segments]) if self._split else np.array([pooled])

    def _over(self, log_m: Float64s, pooled: str, segments: str) -> NDArray[np.bool_]:
        if self.null.learning:
            return np.zeros(len(log_m), np.bool_)
        over = log_m >= self.budget.log_threshold(pooled)
        over[1:] = e_bh(log_m[1:], self.budget.log_threshold(segments))
        return over

    def _spent(self, minutes: float, n: float) -> float:
        return float(clock(minutes, np.array([n]), self.budget.minutes, self.budget.images)[0])

    def _premise_of(self, start: datetime) -> Premise:
        hour = to_us(start) // 3_600_000_000
        if self._premise is None or self._premise[0] != hour:
            self._premise = hour, self.null.premise(start, self.segments)
        return self._premise[1]

    def _observe_flags(self, t: int, minutes: float, counts: Table, premise: Premise, d: Float64s) -> None:
        n = with_all_traffic(counts.n, segments=self._split)
        rows = np.flatnonzero(n > 0)
        if not len(rows):
            return
        q = self._of_streams(float((counts.n * premise.q).sum() / n[0]), premise.q)
        flags = Flags(n[rows], with_all_traffic(counts.k, segments=self._split)[rows], q[rows], d[rows])
        ladder.observe(self._ladder, rows, t, minutes, flags, self.budget, self.thresholds)

    def _observe_histograms(self, t: int, minutes: float, histograms: Float64s, d: Float64s) -> None:
        counts = with_all_traffic(histograms, segments=self._split)
        n = counts.sum(axis=1)
        rows = np.flatnonzero(n > 0)
        if not len(rows):
            return
        if self._penalty is None:
            self._penalty = self.null.penalty(self.segments)
        library = self.null.histogram
        assert library is not None
        increments = histogram_increments(counts[rows], d[rows], library, self._penalty[rows])
        clocks = clock(minutes, n[rows] / d[rows], self.budget.minutes, self.budget.images)
        auxiliary.observe(self._signals["histogram"].streams, rows, t, minutes, clocks, increments)

    def _observe_classes(self, t: int, tick: Tick) -> None:
        bounds, counts = self.null.classes, class_counts(tick)
        if bounds is None or counts is None or not counts.any():
            return
        d = self.null.d_classes
        spent = self._spent(tick.minutes, float(counts.sum()) / d)
        self._signals["classes"].observe(t, tick.minutes, spent, class_increments(counts, d, bounds))

    def _observe_coverage(self, t: int, tick: Tick) -> None:
        reference, sums = self.null.coverage, tick.pooled
        if reference is None or sums is None or sums.z_sum is None or sums.z_outer is None or not sums.z_n:
            return
        spent = self._spent(tick.minutes, sums.z_n)
        fill_block(self._block, t, tick.minutes, spent, sums.z_n, sums.z_sum, sums.z_outer)
        closed = close_block(self._block, reference)
        if closed is not None:
            increments = coverage_increments(closed.flags, reference.q)
            self._signals["coverage"].observe(closed.t0, closed.minutes, closed.spent, increments)
