"""Many made-up deployments under the product's own detector, side by side."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Float64s, Ints
from pipeline.shift.baseline import Accepted, Baseline, baseline
from pipeline.shift.budget import MINUTES_PER_DAY, Budget, Thresholds
from pipeline.shift.class_mix import ClassHours, ClassMix, class_mix
from pipeline.shift.core import Core
from pipeline.shift.histogram import BINS
from pipeline.shift.hours import HOUR_US
from pipeline.shift.ladder import State
from pipeline.shift.null import Null
from pipeline.shift.signals import class_bounds
from pipeline.shift.tick import Table, to_us
from pipeline.simulation.damage import Change
from pipeline.simulation.population import join
from pipeline.simulation.traffic import Counted, Source

_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
FRACTION = "fraction"  # the OOD fraction's name beside the other signals'


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """What was said in T ticks, by signal; streams are all traffic and, for two signals, the segments."""

    raised: dict[str, NDArray[np.bool_]]  # (T, streams, R): left ok, or crossed again
    states: dict[str, Ints]  # (T, streams, R)

    def __len__(self) -> int:
        return len(self.raised[FRACTION])


class Fleet:
    """Deployments at work, those of one source beside those of the next.

    Args:
        sources: of traffic with the same segments, classes and ticks, calibrated on as many images.
        accepted_days: as many days of traffic are accepted as each one's baseline first; 0: none.
        budget, thresholds: as the product's.
    """

    def __init__(
        self,
        *sources: Source,
        budget: Budget | None = None,
        thresholds: Thresholds | None = None,
        accepted_days: int = 0,
    ) -> None:
        self._sources = sources
        self.population = join([source.population for source in sources])
        self.minutes = sources[0].traffic.minutes
        self._folds = np.searchsorted(self.population.bins, np.arange(BINS))
        self._names = tuple(f"segment {s}" for s in range(sources[0].traffic.segments))
        nulls = [null for source in sources for null in _nulls(source)]
        if accepted_days:
            ticks = round(accepted_days * MINUTES_PER_DAY / self.minutes)
            baselines = [one for source in sources for one in self._accept(source, ticks)]
            nulls = [null.with_baseline(one) for null, one in zip(nulls, baselines, strict=True)]
        thresholds = thresholds or Thresholds()
        for one in nulls:
            one.check(thresholds)
        self._core = Core(nulls, budget or Budget(), thresholds)
        self._core.add(self._names)

    @property
    def tick(self) -> int:
        """The number of the next tick."""
        return self._sources[0].tick

    @property
    def nulls(self) -> Sequence[Null]:
        """What each deployment takes for normal."""
        return self._core.nulls

    def fork(self) -> "Fleet":
        """The same deployments once more, to go another way from here; both draw the same numbers."""
        return copy.deepcopy(self, {id(self.population): self.population, id(self._core.nulls): self._core.nulls})

    def run(self, ticks: int, changes: Sequence[Change] = ()) -> Iterator[Log]:
        """Go on for so many ticks; a log for each stretch of them."""
        while ticks > 0:
            count = min(ticks, *(source.at_once for source in self._sources))
            first = self.tick
            taken = [source.take(count, changes) for source in self._sources]
            classes = [one.classes for one in taken if one.classes is not None]
            cells = np.concatenate([one.cells for one in taken], axis=2)
            yield self._judged(first, Counted(cells, np.concatenate(classes, axis=1) if classes else None))
            ticks -= count

    def _judged(self, first: int, counted: Counted) -> Log:
        histograms = np.add.reduceat(counted.cells, self._folds, axis=-1)
        n, k = histograms.sum(axis=-1), counted.cells[..., self.population.flagged].sum(axis=-1)
        raised: dict[str, list[NDArray[np.bool_]]] = {}
        states: dict[str, list[Ints]] = {}
        for t in range(len(n)):
            classes = None if counted.classes is None else counted.classes[t]
            self._core.advance(self._start(first + t), self.minutes, Table(n[t], k[t], histograms[t], classes))
            decision, crossings = self._core.decide()
            left = (decision.before == State.OK) & (decision.after > State.OK)
            raised.setdefault(FRACTION, []).append(left)
            states.setdefault(FRACTION, []).append(decision.after)
            for name, one in crossings.items():
                raised.setdefault(name, []).append(one.crossed)
                states.setdefault(name, []).append(one.after)
        shape = (len(n), -1, len(self.population))
        return Log(
            {name: np.array(values).reshape(shape) for name, values in raised.items()},
            {name: np.array(values).reshape(shape) for name, values in states.items()},
        )

    def _start(self, tick: int) -> datetime:
        return _MONDAY + timedelta(minutes=tick * self.minutes)

    def _accept(self, source: Source, ticks: int) -> list[Baseline]:
        starts = to_us(_MONDAY) + np.arange(ticks) * round(self.minutes * 60_000_000)
        parts = []
        left = ticks
        while left > 0:
            count = min(left, source.at_once)
            counted = source.take(count)
            classes = None if counted.classes is None else counted.classes.astype(np.int64)
            parts.append((counted.cells.astype(np.uint16), classes))  # a quarter of the memory
            left -= count
        cells = np.concatenate([part[0] for part in parts])
        counted_classes = [part[1] for part in parts if part[1] is not None]
        classes = np.concatenate(counted_classes) if counted_classes else None
        return [
            self._baseline(starts, cells[:, :, r].astype(np.float64), None if classes is None else classes[:, r])
            for r in range(len(source.population))
        ]

    def _baseline(self, starts: Ints, cells: Float64s, classes: Ints | None) -> Baseline:
        """Of one deployment: cells (T, S, C)."""

        def accepted(of: Float64s) -> Accepted:
            histograms = np.add.reduceat(of, self._folds, axis=-1)
            return Accepted(starts, of.sum(axis=-1), of[:, self.population.flagged].sum(axis=-1), histograms)

        segments = ((name, accepted(cells[:, s])) for s, name in enumerate(self._names))
        pooled = accepted(cells.sum(axis=1))
        mix = None if classes is None else _class_mix(starts, classes)
        return baseline(pooled, segments, n_cal=self.population.n, minutes=self.minutes, classes=mix)


def _class_mix(starts: Ints, classes: Ints) -> ClassMix | None:
    """Of ticks (T, K)."""
    numbers, first = np.unique(starts // HOUR_US, return_index=True)
    hours = ClassHours(numbers * HOUR_US, np.add.reduceat(classes, first, axis=0))
    n, frequent = classes.sum(axis=1), classes[:, hours.frequent]
    return class_mix(hours, starts, n.astype(np.float64), frequent.astype(np.float64))


def _nulls(source: Source) -> list[Null]:
    """What the deployments of a source take for normal before any traffic was accepted."""
    population, classes = source.population, source.traffic.classes
    null = Null.from_reference_numbers(population.n, population.alpha)
    if not classes:
        return [null] * len(population)
    counts = source.rng.multinomial(population.n, np.full(classes, 1 / classes), size=len(population))
    return [replace(null, classes=class_bounds(of_one)) for of_one in counts]
