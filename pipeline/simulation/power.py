"""The power card: what the detector finds of given traffic, how soon, and how often it is wrong."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from pipeline.records import Float64s
from pipeline.shift.budget import MINUTES_PER_DAY, Budget, Thresholds
from pipeline.simulation.damage import Change, measured, unusual, weight_for
from pipeline.simulation.finding import find
from pipeline.simulation.fleet import Fleet
from pipeline.simulation.population import Population, draw_population
from pipeline.simulation.traffic import Source, Traffic

SHARES = (0.10, 0.20, 0.50)  # flagged images of which the card speaks
MONTH_MINUTES = 30 * MINUTES_PER_DAY
_DEPLOYMENTS = 200  # at most; the 95 % of fewer than 40 would be the maximum
_LEAST_DEPLOYMENTS = 40
_STREAMS = 2_000  # side by side
_BEFORE = 240  # ticks of normal traffic before a change
_ENOUGH = 0.955  # deployments to wait for: median and 95 % are known then
_NORMAL = 1_500_000  # ticks of a stream, for the false alarms
_CHANGED, _DAMAGED = 2_000_000, 500_000  # the same, until a change counts as never found
_TICKS = (1.0, 5.0, 15.0, 60.0)  # minutes; longer ones where images are rare: the evidence is the same


@dataclass(frozen=True, slots=True)
class Question:
    """What the card is for."""

    traffic: Traffic
    n_cal: int
    target_fpr: float
    budget: Budget
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class Damage:
    """A kind of damage as measured on a reference's own images."""

    kind: str
    bins: Float64s  # (18,) shares of their scores
    undamaged: Float64s  # the same images before
    flagged: float  # share above the threshold


@dataclass(frozen=True, slots=True)
class Found:
    """Minutes until a change is found; None: not by so many within `limit_minutes`."""

    change: str
    where: str
    median_minutes: float | None
    most_minutes: float | None  # 95 % are found by then
    found: float  # share of the simulated deployments
    by: str  # the signal that is most often the first
    by_share: float
    limit_minutes: float


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """What normal traffic raised, all signals together."""

    months: float
    raises: int
    a_month: float
    a_month_upper: float  # Poisson, 95 %, one-sided
    promised_a_month: float


def traffic_of(images_per_minute: float, segments: int) -> Traffic:
    """Traffic with ticks that are long enough to hold an image."""
    minutes = next((m for m in _TICKS if images_per_minute * m >= 1), _TICKS[-1])
    return Traffic(images_per_minute=images_per_minute, segments=segments, minutes=minutes)


class PowerCard:
    """Simulates the answers to a question, one after the other; the same seed gives the same ones."""

    def __init__(self, question: Question, rng: np.random.Generator) -> None:
        streams = 1 if question.traffic.segments == 1 else 1 + question.traffic.segments
        size = int(np.clip(_STREAMS // streams, _LEAST_DEPLOYMENTS, _DEPLOYMENTS))
        self._question, self._cost = question, size * streams
        population = draw_population(question.n_cal, question.target_fpr, size, rng)
        source = Source(question.traffic, population, rng)
        self._fleet = Fleet(source, budget=question.budget, thresholds=question.thresholds)
        for _ in self._fleet.run(_BEFORE):
            pass

    def shares(self, wanted: Sequence[float] = SHARES) -> Iterator[Found]:
        """When so many images are flagged from now on: in all traffic, and in one of several segments."""
        segments = self._question.traffic.segments
        places = [("all traffic", None)] + ([(f"one of {segments} segments", [0])] if segments > 1 else [])
        for where, changed in places:
            for share in wanted:
                yield self._found(f"{share:.0%} flagged", where, flagged(share, changed), _CHANGED)

    def damage(self, kinds: Sequence[Damage]) -> Iterator[Found]:
        """When all traffic becomes like images of a reference that were damaged."""
        for one in kinds:

            def change(population: Population, at: int, one: Damage = one) -> Change:
                cells = measured(population, one.bins, one.undamaged, one.flagged)
                return Change(cells, at, np.ones(1))

            yield self._found(one.kind, "all traffic", change, _DAMAGED)

    def false_alarms(self) -> FalseAlarms:
        """Of the deployments as they are, p0⁺ being exceeded by one in twenty of them."""
        fleet = self._fleet.fork()
        ticks = max(_NORMAL // self._cost, 1)
        raises = sum(int(raised.sum()) for log in fleet.run(ticks) for raised in log.raised.values())
        months = ticks * fleet.minutes * len(fleet.population) / MONTH_MINUTES
        upper = float(chdtri(2 * raises + 2, 0.05)) / 2 / months
        promised = MONTH_MINUTES / self._question.budget.minutes
        return FalseAlarms(months, raises, raises / months, upper, promised)

    def _found(self, name: str, where: str, change: Callable[[Population, int], Change], most: int) -> Found:
        fleet = self._fleet.fork()
        limit = max(most // self._cost, 1)
        finding = find(fleet, [change(fleet.population, fleet.tick)], limit, enough=_ENOUGH)
        by, by_share = finding.first_signal()
        median, late = (None if np.isinf(value) else value for value in finding.quantiles())
        share = float(np.isfinite(finding.delays).mean())
        return Found(name, where, median, late, share, by, by_share, limit * fleet.minutes)


def flagged(share: float, segments: Sequence[int] | None = None) -> Callable[[Population, int], Change]:
    """Unusual images come, so that `share` of all images are flagged."""

    def change(population: Population, at: int) -> Change:
        cells = unusual(population)
        return Change(cells, at, weight_for(population, cells, share), segments=segments)

    return change
