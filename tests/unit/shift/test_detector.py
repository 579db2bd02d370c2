"""What must hold of the detector whatever the ticks, and one small simulation of its promise."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RefusedError, UsageError
from pipeline.records import Float64s
from pipeline.shift import auxiliary, ladder
from pipeline.shift.budget import Budget, Shares, Thresholds
from pipeline.shift.coverage import bootstrap
from pipeline.shift.detector import Detector
from pipeline.shift.evidence import advance, apply_map, clock, flag_increments, merge_maps, tick_map
from pipeline.shift.fdr import e_bh
from pipeline.shift.histogram import BINS, edge_ranks, expected_shares
from pipeline.shift.ladder import R_DOWN, R_UP, Flags, State
from pipeline.shift.null import Null, images_needed
from pipeline.shift.signals import LOG_WEIGHTS_DOWN, class_bounds, histogram_increments, histogram_library
from pipeline.shift.snapshot import CorruptState
from pipeline.shift.threshold import conformal_rank, flag_rate_bounds
from pipeline.shift.tick import Counts, Tick
from pipeline.shift.verdict import StreamVerdict

fixed = settings(derandomize=True, deadline=None, max_examples=25)
seeds = st.integers(0, 10**6)
NULL = Null.from_reference_numbers(2000, 0.05)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
SHARES = expected_shares(2000)
UNUSUAL = np.where(np.arange(BINS) >= 14, 6, 1) * SHARES


def counts_of(rng: np.random.Generator, n: float, shares: Float64s) -> Counts:
    histogram = rng.poisson(n * shares / shares.sum()).astype(float)
    return Counts(histogram.sum(), histogram[14:].sum(), histogram)


def some_ticks(seed: int, count: int, segments: int, shift: int | None = None) -> list[Tick]:
    """Ticks of traffic in which, from tick `shift` on, the first segment is unusual; some have no images."""
    rng = np.random.default_rng(seed)
    names = [f"camera {i}" for i in range(segments)]
    ticks = []
    for t in range(count):
        parts = {
            name: counts_of(rng, 12, UNUSUAL if shift is not None and t >= shift and i == 0 else SHARES)
            for i, name in enumerate(names)
            if rng.random() < 0.9
        }
        ticks.append(Tick(MONDAY + timedelta(minutes=t), 1, parts))
    return ticks


def run(detector: Detector, ticks: list[Tick]) -> list[list[StreamVerdict]]:
    return [detector.step(tick) for tick in ticks]


def state_of(verdicts: list[StreamVerdict], stream: str) -> str:
    return next(one.state for one in verdicts if one.stream == stream)


@fixed
@given(seeds, st.integers(1, 6), st.integers(0, 39))
def test_a_detector_that_went_through_bytes_goes_on_bit_for_bit(seed: int, segments: int, cut: int) -> None:
    ticks = some_ticks(seed, 40, segments, shift=10)
    straight = Detector(NULL)
    expected = run(straight, ticks)
    first = Detector(NULL)
    verdicts = run(first, ticks[:cut])
    second = Detector.restore(first.snapshot(), NULL)
    assert second.snapshot() == first.snapshot()
    assert verdicts + run(second, ticks[cut:]) == expected
    assert second.snapshot() == straight.snapshot()


@fixed
@given(seeds)
def test_the_order_in_which_a_tick_lists_its_segments_changes_nothing(seed: int) -> None:
    ticks = some_ticks(seed, 30, 5, shift=5)
    turned = [Tick(tick.start, tick.minutes, dict(list(tick.segments.items())[::-1])) for tick in ticks]
    assert run(Detector(NULL), turned) == run(Detector(NULL), ticks)


@fixed
@given(seeds)
def test_a_streams_evidence_does_not_depend_on_the_streams_beside_it(seed: int) -> None:
    few, many = Detector(NULL, segments=["a", "b"]), Detector(NULL, segments=[f"x{i}" for i in range(9)] + ["a", "b"])
    rng = np.random.default_rng(seed)
    for t in range(20):
        parts = {name: counts_of(rng, 30, SHARES) for name in ("a", "b")}
        others = {f"x{i}": counts_of(rng, 30, SHARES) for i in range(9)}
        one = few.step(Tick(MONDAY + timedelta(minutes=t), 1, parts))
        two = many.step(Tick(MONDAY + timedelta(minutes=t), 1, others | parts))
    for stream in ("segment:a", "segment:b", "histogram:a", "histogram:b"):
        assert next(v for v in one if v.stream == stream) == next(v for v in two if v.stream == stream)


@fixed
@given(seeds)
def test_a_tick_without_images_changes_nothing(seed: int) -> None:
    ticks = some_ticks(seed, 20, 3, shift=10)
    detector = Detector(NULL)
    before = run(detector, ticks)[-1]
    empty = Tick(MONDAY + timedelta(minutes=20), 1, {name: Counts(0, 0) for name in detector.segments})
    evidence = [(one.stream, one.log_evidence) for one in before if one.transition is None and not one.crossed]
    after = {one.stream: one.log_evidence for one in detector.step(empty)}
    assert evidence
    assert all(after[stream] == log_m for stream, log_m in evidence)


@fixed
@given(seeds, st.floats(1, 50))
def test_dispersion_counts_d_images_as_one(seed: int, d: float) -> None:
    rng = np.random.default_rng(seed)
    plain, burst = ladder.new_streams(1), ladder.new_streams(1)
    for t in range(20):
        n, q = np.array([float(rng.integers(1, 80))]), np.array([0.06])
        k = np.floor(n * rng.random() * 0.4)
        for streams, size in ((plain, 1.0), (burst, d)):
            flags = Flags(n * size, k * size, q, np.array([size]))
            ladder.observe(streams, np.array([0]), t, 1, flags, Budget(images=1e9), Thresholds())
    np.testing.assert_allclose(burst["null"], plain["null"], rtol=1e-9)
    np.testing.assert_allclose(burst["n"], plain["n"] * d, rtol=1e-9)


@fixed
@given(seeds, st.integers(0, 30), st.integers(0, 30))
def test_merging_ticks_is_associative_and_equals_minute_by_minute(seed: int, a: int, b: int) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(0, 60, 31).astype(float)
    increments = flag_increments(rng.binomial(n.astype(int), 0.1).astype(float), n, np.full(31, 0.06), R_UP)
    clocks = clock(1, n, 43_200, 100_000)
    maps = [tick_map(increments[t : t + 1], clocks[t : t + 1]) for t in range(31)]
    first, then = sorted((a, b))
    ell = np.full((1, 6), -np.inf)
    for t in range(31):
        ell = advance(ell, clocks[t : t + 1], increments[t : t + 1])
    identity = (np.zeros((1, 6)), np.full((1, 6), -np.inf))
    parts = [reduce(merge_maps, stretch, identity) for stretch in (maps[:first], maps[first:then], maps[then:])]
    left = merge_maps(merge_maps(parts[0], parts[1]), parts[2])
    right = merge_maps(parts[0], merge_maps(parts[1], parts[2]))
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(apply_map(np.full((1, 6), -np.inf), *left), ell, rtol=1e-9, atol=1e-9)


@fixed
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.integers(0, 29), st.floats(0, 30))
def test_more_evidence_in_one_stream_takes_no_stream_out_of_e_bh(
    evidence: list[float], which: int, more: float
) -> None:
    raised = list(evidence)
    raised[which % len(evidence)] += more
    before, after = e_bh(np.array(evidence), 10.0), e_bh(np.array(raised), 10.0)
    assert not (before & ~after).any()
    assert not before.any() or np.logaddexp.reduce(evidence) - np.log(len(evidence)) >= 10 - 1e-9


def test_later_revisions_are_decided_once_and_end_where_the_right_counts_would_have() -> None:
    ticks = some_ticks(3, 30, 2)
    detector = Detector(NULL)
    run(detector, ticks[:20])
    checkpoint = detector.snapshot()
    revised = ticks[:25] + some_ticks(4, 30, 2, shift=0)[25:]
    late = Detector.restore(checkpoint, NULL)
    for tick in revised[20:]:
        late.advance(tick)
    plain = Detector(NULL)
    expected = run(plain, revised)[-1]
    assert [one.log_evidence for one in late.decide()] == [one.log_evidence for one in expected]


def test_a_second_segment_starts_streams_of_both_without_evidence() -> None:
    detector = Detector(NULL)
    rng = np.random.default_rng(0)
    alone = detector.step(Tick(MONDAY, 1, {"a": counts_of(rng, 60, SHARES)}))
    assert [one.stream for one in alone] == ["pooled", "histogram", "low"]
    both = detector.step(Tick(MONDAY + timedelta(minutes=1), 1, {"b": counts_of(rng, 60, SHARES)}))
    assert [one.stream for one in both] == [
        *("pooled", "segment:a", "segment:b"),
        *("histogram", "histogram:a", "histogram:b"),
        "low",
    ]
    assert (state_of(both, "segment:a"), state_of(both, "segment:b")) == ("no_data", "ok")


def test_a_frozen_camera_of_five_is_found_by_its_own_histogram_within_five_minutes() -> None:
    rng = np.random.default_rng(7)
    frozen = np.eye(BINS)[8]
    detector = Detector(NULL)
    found = None
    for t in range(200):
        parts = {f"c{i}": counts_of(rng, 12, frozen if t >= 60 and i == 2 else SHARES) for i in range(5)}
        verdicts = detector.step(Tick(MONDAY + timedelta(minutes=t), 1, parts))
        raised = [one.stream for one in verdicts if one.transition is not None]
        if raised:
            found = found or (t, raised[0], next(one for one in verdicts if one.transition is not None))
            break
    assert found is not None
    t, stream, verdict = found
    assert (stream, verdict.transition and verdict.transition.leading) == ("histogram:c2", "bin 8")
    assert 60 <= t < 65
    assert verdict.onset == MONDAY + timedelta(minutes=60)


def test_classes_and_coverage_are_watched_where_the_null_has_them() -> None:
    rng = np.random.default_rng(5)
    z = rng.normal(size=(2000, 4))
    null = Null(
        n=2000,
        rank=NULL.rank,
        alpha=NULL.alpha,
        p0_low=NULL.p0_low,
        p0_high=NULL.p0_high,
        classes=class_bounds(np.array([700, 700, 600])),
        coverage=bootstrap(z, rng),
    )
    detector = Detector(null)
    first: dict[str, int] = {}
    for t in range(180):
        part = counts_of(rng, 60, SHARES)
        n = int(part.n)
        x = rng.normal(size=(n, 4)) * (0.6 if t >= 60 else 1)
        sums = x.sum(axis=0), (x.T @ x)[np.triu_indices(4)]
        classes = rng.multinomial(n, [0.1, 0.6, 0.3] if t >= 60 else [0.35, 0.35, 0.3])
        pooled = Counts(n, part.flags, None, classes, n, *sums)
        for one in detector.step(Tick(MONDAY + timedelta(minutes=t), 1, {"a": part}, pooled)):
            if one.transition is not None:
                first.setdefault(f"{one.stream} {one.transition.after} {one.transition.leading}", t)
    assert [key.rsplit(" ×", 1)[0] for key in first] == ["classes shift class 0", "coverage shift narrower"]
    assert all(60 <= t < 90 for t in first.values())
    restored = Detector.restore(detector.snapshot(), null)
    assert restored.snapshot() == detector.snapshot()


def test_a_small_reference_raises_nothing_and_says_that_it_is_learning() -> None:
    detector = Detector(Null.from_reference_numbers(150, 0.05))
    verdicts = run(detector, some_ticks(0, 60, 1, shift=0))[-1]
    assert [(one.stream, one.state) for one in verdicts] == [("pooled", "learning"), ("low", "learning")]
    assert verdicts[0].log_evidence > 50


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Detector(Null.from_reference_numbers(59, 0.05)), "at least 61 images"),
        (lambda: Detector(NULL, thresholds=Thresholds(0.05, 0.25)), "no number of images would do"),
        (lambda: Thresholds(0.3, 0.2), "warning < critical"),
        (lambda: Thresholds(0.1, float("nan")), "critical level nan"),
        (lambda: Budget(minutes=0), "minutes = 0"),
        (lambda: Budget(images=float("inf")), "images = inf"),
        (lambda: Shares(pooled=0.9), "at most 1"),
        (lambda: run(Detector(NULL), [Tick(MONDAY, 5), Tick(MONDAY + timedelta(minutes=4), 1)]), "in order of time"),
    ],
)
def test_what_cannot_hold_is_refused_with_the_reason(make: Callable[[], object], said: str) -> None:
    with pytest.raises((UsageError, RefusedError), match=said):
        make()


def test_the_number_of_images_that_would_do_is_the_first_from_which_all_do() -> None:
    needed = images_needed(0.05, 0.07)
    assert needed is not None
    bounds = [flag_rate_bounds(n, conformal_rank(n, 0.05))[1] for n in range(needed - 1, needed + 200)]
    assert bounds[0] >= 0.07
    assert max(bounds[1:]) < 0.07


def test_state_of_another_configuration_or_no_state_is_refused() -> None:
    content = Detector(NULL).snapshot()
    with pytest.raises(RefusedError, match="start the detector anew"):
        Detector.restore(content, NULL, thresholds=Thresholds(0.12, 0.25))
    for broken in (b"", b"\x00" + content[1:], content[:-3], content[:1] + b"x"):
        with pytest.raises(CorruptState):
            Detector.restore(broken, NULL)


def tick_arrays(seed: int, deployments: int, ticks: int) -> tuple[Float64s, Float64s]:
    """True flag rates (R,), and counts (T, R, 18) of deployments that each drew their own 2,000 images."""
    rng = np.random.default_rng(seed)
    ranks = edge_ranks(2000) - 1
    v = np.sort(rng.random((deployments, 2000)), axis=1)[:, ranks]
    shares = np.diff(v, axis=1, prepend=0, append=1)
    return 1 - v[:, 13], rng.poisson(60 * shares, size=(ticks, deployments, BINS)).astype(float)


def false_raises(counts: Float64s, p0: Mapping[str, float]) -> dict[str, int]:
    """Raises of the three signals of deployments with one segment each, stepped side by side."""
    budget, levels, library = Budget(), Thresholds(), histogram_library(2000)
    count = counts.shape[1]
    rows, ones = np.arange(count), np.ones(count)
    fraction = ladder.new_streams(count)
    histogram, low = auxiliary.new_streams(count, 30), auxiliary.new_streams(count, 4)
    raises = {"pooled": 0, "histogram": 0, "low": 0}
    for t, tick in enumerate(counts):
        n, k = tick.sum(axis=1), tick[:, 14:].sum(axis=1)
        clocks = clock(1, n, budget.minutes, budget.images)
        ladder.observe(fraction, rows, t, 1, Flags(n, k, np.full(count, p0["high"]), ones), budget, levels)
        log_m, log_w = ladder.log_evidence(fraction)
        needed = budget.log_threshold("pooled")
        decision = ladder.decide(fraction, log_m, log_m >= needed, log_w >= needed, budget, levels)
        raises["pooled"] += int(((decision.before == State.OK) & (decision.after > State.OK)).sum())
        for name, streams, log_weights, increments in (
            ("histogram", histogram, library.log_weights, histogram_increments(tick, ones, library, library.penalty)),
            ("low", low, LOG_WEIGHTS_DOWN, flag_increments(k, n, np.full(count, p0["low"]), R_DOWN)),
        ):
            auxiliary.observe(streams, rows, t, 1, clocks, increments)
            log_m = auxiliary.log_evidence(streams, log_weights)
            found = auxiliary.decide(streams, log_m, log_m >= budget.log_threshold(name), log_weights)
            raises[name] += int(found.crossed.sum())
    return raises


def test_six_months_of_normal_traffic_raise_less_than_was_promised() -> None:
    """60 deployments, three days each, 60 images a minute: promised is at most one raise a month, of all signals."""
    p, counts = tick_arrays(seed=11, deployments=60, ticks=4320)
    assert (p > NULL.p0_high).sum() == 2
    within = counts[:, p <= NULL.p0_high]
    raises = false_raises(within, {"high": NULL.p0_high, "low": NULL.p0_low})
    months = within.shape[0] * within.shape[1] / 43_200
    assert sum(raises.values()) <= months * (0.35 + 0.075 + 0.025), raises
