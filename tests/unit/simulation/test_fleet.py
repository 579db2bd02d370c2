"""A fleet is the product's detector, many times side by side."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.errors import RefusedError
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.core import Core
from pipeline.shift.detector import Detector
from pipeline.shift.histogram import BINS, expected_shares
from pipeline.shift.ladder import State
from pipeline.shift.null import Null
from pipeline.shift.signals import class_bounds
from pipeline.shift.tick import Counts, Table, Tick
from pipeline.simulation.damage import Change, frozen, unusual, weight_for
from pipeline.simulation.finding import find, quantiles
from pipeline.simulation.fleet import FRACTION, Fleet
from pipeline.simulation.population import draw_population
from pipeline.simulation.traffic import Source, Traffic

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def fleet(size: int = 6, seed: int = 1, *, days: int = 0, traffic: Traffic | None = None) -> Fleet:
    rng = np.random.default_rng(seed)
    source = Source(traffic or Traffic(), draw_population(2_000, 0.05, size, rng), rng)
    return Fleet(source, accepted_days=days)


def to_half(fleet: Fleet, **more: object) -> Change:
    cells = unusual(fleet.population)
    return Change(cells, fleet.tick, weight_for(fleet.population, cells, 0.5), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("segments", [1, 4])
def test_deployments_side_by_side_are_what_each_would_be_alone(segments: int) -> None:
    rng = np.random.default_rng(9)
    plain = Null.from_reference_numbers(2_000, 0.05)
    nulls = [replace(plain, classes=class_bounds(rng.multinomial(2_000, [0.5, 0.3, 0.2]))) for _ in range(3)]
    names = [f"s{i}" for i in range(segments)]
    core = Core(nulls, Budget(), Thresholds())
    core.add(names)
    alone = [Detector(null, segments=names) for null in nulls]
    for t in range(60):
        mean = 60 * expected_shares(2_000) * np.where((np.arange(BINS) >= 14) & (t > 30), 8, 1)
        histograms = rng.poisson(mean, (segments, 3, BINS)).astype(float)
        histograms[:, 2] *= t % 3 == 0  # a deployment that is often silent
        n, k = histograms.sum(axis=2), histograms[..., 14:].sum(axis=2)
        classes = rng.poisson(5, (3, 3)).astype(float)
        start = MONDAY + timedelta(minutes=t)
        core.advance(start, 1, Table(n, k, histograms, classes))
        decision, crossings = core.decide()
        for r, detector in enumerate(alone):
            parts = {name: Counts(n[s, r], k[s, r], histograms[s, r]) for s, name in enumerate(names)}
            verdicts = detector.step(Tick(start, 1, parts, Counts(0, 0, None, classes[r].astype(int))))
            together = decision.log_evidence[r::3].tolist()
            states = [str(State(int(state))) for state in decision.after[r::3]]
            for of_signal in crossings.values():
                together += of_signal.log_evidence[r::3].tolist()
                states += [str(State(int(state))) for state in of_signal.after[r::3]]
            np.testing.assert_allclose(together, [one.log_evidence for one in verdicts], rtol=1e-9, atol=1e-9)
            assert states == [one.state for one in verdicts]
    assert "critical" in states


def test_a_fork_goes_on_with_the_same_numbers_and_leaves_the_first_where_it_was() -> None:
    first = fleet()
    list(first.run(30))
    fork = first.fork()
    change = to_half(first)
    forked = find(fork, [change], 30)
    assert (first.tick, fork.tick) == (30, fork.tick)
    again = find(first, [change], 30)
    assert forked.delays.tolist() == again.delays.tolist()


def test_half_the_images_flagged_are_found_at_once_by_the_fraction() -> None:
    made = fleet(size=40)
    list(made.run(30))
    finding = find(made, [to_half(made)], 30)
    assert finding.quantiles() == (1, 1)
    assert finding.first_signal() == (FRACTION, 1)


def test_a_frozen_segment_is_found_by_its_own_histogram_and_what_never_changes_is_not_found() -> None:
    made = fleet(size=20, traffic=Traffic(segments=5))
    list(made.run(30))
    quiet = find(made.fork(), [], 60)
    assert np.isinf(quiet.delays).all()
    assert quiet.first_signal() == ("", 0)
    cells = frozen(made.population, np.random.default_rng(0))
    finding = find(made, [Change(cells, made.tick, np.ones(1), segments=[3])], 60)
    assert finding.quantiles()[1] <= 3
    assert finding.first_signal()[0] == "histogram of a segment"
    assert finding.right_segment() == 1
    assert find(fleet(), [], 5).right_segment() is None


def test_quantiles_are_order_statistics_and_keep_what_was_never_found() -> None:
    delays = np.array([5.0, 1, 2, np.inf, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19])
    assert quantiles(delays) == (10, 19)
    assert quantiles(np.append(delays, np.inf)) == (11, np.inf)


def test_an_accepted_baseline_keeps_quiet_nights_and_wandering_below_the_promise() -> None:
    traffic = Traffic(night=0.2, rate_by_day=0.7, rate_by_night=1.3, wander_hours=3, wander_sd=0.1, classes=5)
    made = fleet(size=3, days=7, traffic=traffic)
    assert made.tick == 7 * 1440
    assert [null.baseline is not None and null.baseline.days for null in made.nulls] == [7, 7, 7]
    raises = sum(int(raised.sum()) for log in made.run(1440) for raised in log.raised.values())
    assert raises == 0


def test_a_baseline_that_reaches_the_warning_level_is_refused() -> None:
    with pytest.raises(RefusedError, match="warning level"):
        fleet(size=1, days=3, traffic=Traffic(rate_by_day=0.5, rate_by_night=3))
