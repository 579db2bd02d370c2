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

from pipeline.errors import RefusedError, UsageError
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.core import Core
from pipeline.shift.coverage import close_block, fill_block, new_block
from pipeline.shift.evidence import Streams, clock
from pipeline.shift.null import Null
from pipeline.shift.signals import coverage_increments
from pipeline.shift.silence import Silence, silence
from pipeline.shift.snapshot import fingerprint, pack, unpack, unpack_arrays
from pipeline.shift.tick import Tick, from_us, new_names, table, to_us
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
        self._end: int | None = None
        self._core = Core([null], self.budget, self.thresholds)
        self._block = new_block(0 if null.coverage is None else len(null.coverage.mean))
        self._core.add(segments)

    @property
    def segments(self) -> tuple[str, ...]:
        """Those known so far."""
        return tuple(self._core.rows)

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
        self._core.advance(tick.start, tick.minutes, table(tick, self._core.rows))
        self._observe_coverage(t, tick)

    def decide(self) -> list[StreamVerdict]:
        """The verdict of every stream, after at most one transition each."""
        decision, crossings = self._core.decide()
        learning = self.null.learning
        verdicts = ladder_verdicts(self._names("pooled", "segment"), decision, learning=learning)
        for name, of_signal in crossings.items():
            names = self._names(name, name)[: len(of_signal.after)]
            components = self._core.signals[name].components
            verdicts += auxiliary_verdicts(names, components, of_signal, learning=learning)
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
            "segments": list(self._core.rows),
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
        core = detector._core
        core.add(header["segments"])
        detector._end = header["end"]
        core.ladder, detector._block, *streams = arrays
        for signal, array in zip(core.signals.values(), streams, strict=True):
            signal.streams = array
        return detector

    def _arrays(self) -> list[Streams]:
        return [self._core.ladder, self._block, *(signal.streams for signal in self._core.signals.values())]

    def _accept(self, tick: Tick) -> int:
        t = to_us(tick.start)
        if self._end is not None and t < self._end:
            raise UsageError(
                f"tick {tick.start.isoformat()} begins before the last one ended, {from_us(self._end).isoformat()}:"
                " ticks are taken in once, in order of time"
            )
        self._core.add(new_names(tick, self._core.rows))
        self._end = t + round(tick.minutes * 60_000_000)
        return t

    def _names(self, pooled: str, segment: str) -> list[str]:
        return [pooled, *(f"{segment}:{name}" for name in self._core.rows)] if self._core.split else [pooled]

    def _observe_coverage(self, t: int, tick: Tick) -> None:
        reference, sums = self.null.coverage, tick.pooled
        if reference is None or sums is None or sums.z_sum is None or sums.z_outer is None or not sums.z_n:
            return
        spent = float(clock(tick.minutes, np.array([sums.z_n]), self.budget.minutes, self.budget.images)[0])
        fill_block(self._block, t, tick.minutes, spent, sums.z_n, sums.z_sum, sums.z_outer)
        closed = close_block(self._block, reference)
        if closed is not None:
            increments = coverage_increments(closed.flags, reference.q)
            first, spent_on_it = np.zeros(1, np.int64), np.array([closed.spent])
            self._core.observe("coverage", first, closed.t0, closed.minutes, spent_on_it, increments)
