"""The streams of one deployment, or of many side by side: the product has one, a simulation hundreds.

Rows go stream by stream: all traffic of each of the R deployments, then the first segment of each, and
so on. Evidence mixes no rows; only e-BH looks over the segments, of one deployment at a time. So what a
simulation measures is what runs.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Float64s, Ints
from pipeline.shift import auxiliary, ladder
from pipeline.shift.auxiliary import Crossings
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.evidence import clock, flag_increments
from pipeline.shift.fdr import e_bh
from pipeline.shift.ladder import R_DOWN, Decision, Flags
from pipeline.shift.null import Null
from pipeline.shift.signals import (
    RateBounds,
    class_increments,
    histogram_increments,
    rate_increments,
    signals_of,
)
from pipeline.shift.tick import Table, to_us, with_all_traffic

_HOUR_US = 3_600_000_000


class _Premises(NamedTuple):
    """What holds in one hour, R deployments of S segments."""

    q: Float64s  # (S, R) bound of the flag rate
    d: Float64s  # (streams·R,)
    d_pooled: Float64s  # (R,)
    low: Float64s  # (R,)
    rates: list[RateBounds | None]


class Core:
    """Evidence and states of R deployments with the same segments, calibrated on as many images each.

    Args:
        nulls: normal traffic of each deployment.
    """

    def __init__(self, nulls: Sequence[Null], budget: Budget, thresholds: Thresholds) -> None:
        self.nulls, self.budget, self.thresholds = nulls, budget, thresholds
        self.rows: dict[str, int] = {}
        self.ladder = ladder.new_streams(len(nulls))
        first = nulls[0]
        rate = any(null.baseline is not None and any(null.baseline.rates) for null in nulls)
        self.signals = signals_of(first.histogram, first.classes, first.coverage, budget, rate=rate)
        for signal in self.signals.values():
            signal.grow(len(nulls))
        self._hour: int | None = None
        self._premises: _Premises | None = None
        self._bets: tuple[Float64s, Float64s] | None = None  # (S·R, J) penalties and divisors

    @property
    def split(self) -> bool:
        """Whether segments have streams of their own: from the second one on."""
        return len(self.rows) > 1

    def add(self, segments: Iterable[str]) -> None:
        """Take up segments; those that are known stay as they are."""
        known = len(self.rows)
        for name in segments:
            self.rows.setdefault(name, len(self.rows))
        if len(self.rows) == known:
            return
        self._hour = self._bets = None
        count = (1 + len(self.rows) if self.split else 1) * len(self.nulls)
        if count > len(self.ladder):
            self.ladder = np.concatenate([self.ladder, ladder.new_streams(count - len(self.ladder))])
            if "histogram" in self.signals:
                self.signals["histogram"].grow(count)

    def advance(self, start: datetime, minutes: float, counts: Table) -> None:
        """The evidence of one tick; all but coverage, which comes in blocks."""
        t = to_us(start)
        premises = self._premises_of(start)
        self._observe_flags(t, minutes, counts, premises)
        if "histogram" in self.signals:
            self._observe_histograms(t, minutes, counts.histograms, premises.d)
        n = counts.n.sum(axis=0)
        self._observe_low(t, minutes, n, counts.k.sum(axis=0), premises)
        bounds = {row: rate for row, rate in enumerate(premises.rates) if rate is not None}
        if "rate" in self.signals and bounds:  # there may be hours that nobody has accepted
            rows = np.array(list(bounds), np.int64)
            increments = rate_increments(n[rows], minutes, *bounds.values())
            self.observe("rate", rows, t, minutes, np.full(len(rows), minutes), increments)
        if "classes" in self.signals and counts.classes is not None:
            self._observe_classes(t, minutes, counts.classes)

    def observe(self, name: str, rows: Ints, t: int, minutes: float, clocks: Float64s, increments: Float64s) -> None:
        """Evidence of a signal's streams `rows`; clocks are what they spend."""
        if len(rows):
            auxiliary.observe(self.signals[name].streams, rows, t, minutes, clocks, increments)

    def decide(self) -> tuple[Decision, dict[str, Crossings]]:
        """At most one transition a stream: of the OOD fraction, and of every other signal."""
        null, warning = ladder.log_evidence(self.ladder)
        over, over_warning = (self._over(log_m, "pooled", "segments") for log_m in (null, warning))
        decision = ladder.decide(self.ladder, null, over, over_warning, self.budget, self.thresholds)
        crossings = {}
        for name, signal in self.signals.items():
            evidence = signal.evidence()
            crossings[name] = signal.decide(evidence, self._over(evidence, name, "histogram_segments"))
        return decision, crossings

    def _over(self, log_m: Float64s, pooled: str, segments: str) -> NDArray[np.bool_]:
        if self.nulls[0].learning:
            return np.zeros(len(log_m), np.bool_)
        deployments = len(self.nulls)
        over = log_m >= self.budget.log_threshold(pooled)
        threshold = self.budget.log_threshold(segments)
        of_segments, found = log_m[deployments:].reshape(-1, deployments), over[deployments:].reshape(-1, deployments)
        found[:] = False
        for one in np.flatnonzero((of_segments >= threshold).any(axis=0)):  # elsewhere e-BH finds nothing
            found[:, one] = e_bh(of_segments[:, one], threshold)
        return over

    def _spent(self, minutes: float, n: Float64s) -> Float64s:
        return clock(minutes, n, self.budget.minutes, self.budget.images)

    def _premises_of(self, start: datetime) -> _Premises:
        hour = to_us(start) // _HOUR_US
        if self._premises is None or self._hour != hour:
            each = [null.premise(start, tuple(self.rows)) for null in self.nulls]
            q, d = (np.stack([getattr(one, name) for one in each], axis=1) for name in ("q", "d"))
            d_pooled = np.array([one.d_pooled for one in each])
            of_streams = np.concatenate([d_pooled[None], d]) if self.split else d_pooled
            low = np.array([one.low for one in each])
            self._premises = _Premises(q, of_streams.reshape(-1), d_pooled, low, [one.rate for one in each])
            self._hour = hour
        return self._premises

    def _observe_flags(self, t: int, minutes: float, counts: Table, premises: _Premises) -> None:
        n, k = (with_all_traffic(values, segments=self.split).reshape(-1) for values in (counts.n, counts.k))
        rows = np.flatnonzero(n > 0)
        if not len(rows):
            return
        pooled = (counts.n * premises.q).sum(axis=0) / np.maximum(counts.n.sum(axis=0), 1e-300)
        q = np.concatenate([pooled, premises.q.reshape(-1)]) if self.split else pooled
        flags = Flags(n[rows], k[rows], q[rows], premises.d[rows])
        ladder.observe(self.ladder, rows, t, minutes, flags, self.budget, self.thresholds)

    def _observe_histograms(self, t: int, minutes: float, histograms: Float64s, d: Float64s) -> None:
        counts = with_all_traffic(histograms, segments=self.split).reshape(len(d), -1)
        n = counts.sum(axis=1)
        rows = np.flatnonzero(n > 0)
        if not len(rows):
            return
        if self._bets is None:
            penalties, divisors = zip(*(null.bets(tuple(self.rows)) for null in self.nulls), strict=True)
            self._bets = _by_stream(penalties), _by_stream(divisors)
        penalty, divisor = self._bets
        library = self.nulls[0].histogram
        assert library is not None
        increments = histogram_increments(counts[rows], divisor[rows], library, penalty[rows])
        self.observe("histogram", rows, t, minutes, self._spent(minutes, n[rows] / d[rows]), increments)

    def _observe_low(self, t: int, minutes: float, n: Float64s, k: Float64s, premises: _Premises) -> None:
        rows = np.flatnonzero(n > 0)
        effective, flags = (values[rows] / premises.d_pooled[rows] for values in (n, k))
        increments = flag_increments(flags, effective, premises.low[rows], R_DOWN)
        self.observe("low", rows, t, minutes, self._spent(minutes, effective), increments)

    def _observe_classes(self, t: int, minutes: float, counts: Float64s) -> None:
        rows = np.flatnonzero(counts.any(axis=1))
        if not len(rows):
            return
        nulls = [self.nulls[row] for row in rows.tolist()]
        bounds = [null.classes for null in nulls if null.classes is not None]
        d = np.array([null.d_classes for null in nulls])
        increments = class_increments(counts[rows], d, *bounds)
        self.observe("classes", rows, t, minutes, self._spent(minutes, counts[rows].sum(axis=1) / d), increments)


def _by_stream(each: Sequence[Float64s]) -> Float64s:
    """(S·R, J), the core's order of rows, of (S, J) a deployment."""
    return np.stack(each, axis=1).reshape(-1, each[0].shape[1])
