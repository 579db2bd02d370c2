"""False raises of normal traffic: months of it, in deployments that each drew their own calibration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Ints
from pipeline.shift.budget import Thresholds
from pipeline.simulation.fleet import Fleet
from pipeline.simulation.population import draw_population
from pipeline.simulation.traffic import Source, Traffic
from tests.benchmarks.detector.intervals import proportion, upper_rate

MONTH_MINUTES = 43_200
DAYS = 14  # accepted as baseline, where one is
#: Above the rates that the accepted baselines of nights and wandering reach.
_HIGHER, _HIGHEST = Thresholds(0.20, 0.40), Thresholds(0.30, 0.50)
_EVEN = Traffic(classes=10)


#: Where progress is told.
Note = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """One kind of normal traffic; images a minute are those of all segments."""

    name: str
    traffic: Traffic
    accepted: bool = False
    at_bound: bool = False
    thresholds: Thresholds = field(default_factory=Thresholds)
    n_cal: int = 2_000


def _both(name: str, traffic: Traffic, thresholds: Thresholds) -> list[Case]:
    return [
        Case(f"{name}, {segments} segments", replace(traffic, segments=segments), accepted=True, thresholds=thresholds)
        for segments in (1, 10)
    ]


def cases() -> list[Case]:
    """N1 to N9 of the published table, and what the issue asks besides."""
    found = []
    for segments in (1, 10):
        traffic = replace(_EVEN, segments=segments)
        found.append(Case(f"N1 even, {segments} segments", traffic))
        found.append(Case(f"N1 even at p = p0+, {segments} segments", traffic, at_bound=True))
    night = replace(_EVEN, night=0.1, rate_by_day=0.6, rate_by_night=1.6)
    found += _both("N6 night 3 to 8 %, a tenth of the traffic", night, _HIGHER)
    for burst in (10, 60):
        found += _both(f"N4 bursts of {burst}", replace(_EVEN, burst=burst), _HIGHER)
    for hours in (1, 6, 24):
        found += _both(f"N6b wandering {hours} h, sd .2", replace(_EVEN, wander_hours=hours, wander_sd=0.2), _HIGHER)
    most = replace(_EVEN, wander_hours=6, wander_sd=0.4)
    found += _both("N6b wandering 6 h, sd .4", most, _HIGHEST)
    for n in (5, 20):
        found.append(Case(f"N2 {n} images a minute", replace(_EVEN, images_per_minute=n)))
    clumped = replace(_EVEN, images_per_minute=20, shape=0.3)
    found.append(Case("N3 negative binomial, mean 20, shape .3", clumped, accepted=True))
    for memory in (0.5, 0.9):
        found.append(Case(f"N5 Markov {memory}", replace(_EVEN, memory=memory), accepted=True))
    for n_cal in (1_000, 10_000):
        found.append(Case(f"N7 {n_cal:,} calibration images", _EVEN, n_cal=n_cal))
    found.append(Case("N8 20 segments", replace(_EVEN, segments=20)))
    found.append(Case("N9 one image an hour", replace(_EVEN, images_per_minute=1 / 60)))
    return found


@dataclass(frozen=True)
class FalseRaises:
    """What months of normal traffic raised."""

    case: str
    deployments: int
    months: float
    raises: int
    a_month: float
    a_month_upper: float  # Poisson, 95 %, one-sided
    within_months: float  # of the deployments with p <= p0+
    within_raises: int
    within_a_month: float
    within_upper: float
    above_promise: int  # deployments with more than one a month
    above_share: float
    above_low: float
    above_high: float
    by_signal: dict[str, int]
    within_by_signal: dict[str, int]
    met: bool


def measure(together: Sequence[Case], *, deployments: int, months: float, seed: int, note: Note) -> list[FalseRaises]:
    """Run cases that differ in their traffic alone side by side: so many deployments each, of so many months."""
    first = together[0]
    sources = []
    for offset, case in enumerate(together):
        rng = np.random.default_rng(seed + offset)
        population = draw_population(case.n_cal, 0.05, deployments, rng, at_bound=case.at_bound)
        sources.append(Source(case.traffic, population, rng))
    fleet = Fleet(*sources, thresholds=first.thresholds, accepted_days=DAYS if first.accepted else 0)
    raises: dict[str, Ints] = {}
    begun, told = fleet.tick, 0
    for log in fleet.run(round(months * MONTH_MINUTES / fleet.minutes)):
        for name, raised in log.raised.items():
            for part, of in ((name, raised[:, :1]), (f"{name} of segments", raised[:, 1:])):
                raises[part] = raises.get(part, np.zeros(raised.shape[2], np.int64)) + of.sum(axis=(0, 1))
        done = (fleet.tick - begun) * fleet.minutes / MONTH_MINUTES
        if int(done) > told:
            told = int(done)
            note(f"{together[0].name} and {len(together) - 1} more: month {told} of {months:g}")
    within = fleet.population.flag_rate <= fleet.nulls[0].p0_high + 1e-9
    blocks = [slice(i * deployments, (i + 1) * deployments) for i in range(len(together))]
    return [
        _summary(case, {name: counts[block] for name, counts in raises.items()}, within[block], months)
        for case, block in zip(together, blocks, strict=True)
    ]


def side_by_side(wanted: Sequence[Case]) -> list[list[Case]]:
    """Cases in groups that can run together."""
    groups: dict[object, list[Case]] = {}
    for case in wanted:
        key = case.traffic.segments, case.traffic.minutes, case.n_cal, case.accepted, case.thresholds
        groups.setdefault(key, []).append(case)
    return list(groups.values())


def _summary(case: Case, by_signal: dict[str, Ints], within: NDArray[np.bool_], months: float) -> FalseRaises:
    raises: Ints = np.sum(list(by_signal.values()), axis=0)
    total, inside = months * len(raises), months * int(within.sum())
    above = int((raises > months).sum())
    low, high = proportion(above, len(raises))
    of_within = int(raises[within].sum())
    upper = upper_rate(of_within, inside)
    return FalseRaises(
        case=case.name,
        deployments=len(raises),
        months=total,
        raises=int(raises.sum()),
        a_month=int(raises.sum()) / total,
        a_month_upper=upper_rate(int(raises.sum()), total),
        within_months=inside,
        within_raises=of_within,
        within_a_month=of_within / inside if inside else 0.0,
        within_upper=upper,
        above_promise=above,
        above_share=above / len(raises),
        above_low=low,
        above_high=high,
        by_signal={name: int(counts.sum()) for name, counts in by_signal.items() if counts.any()},
        within_by_signal={
            name: int(counts[within].sum()) for name, counts in by_signal.items() if counts[within].any()
        },
        met=upper <= 1,
    )
