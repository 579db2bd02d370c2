"""Golden values of every part of the detector, to 1e-9; DETECTOR_VECTORS names another file of them."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.records import Float64s
from pipeline.shift import auxiliary
from pipeline.shift.baseline import Baseline, Normal
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.coverage import block_flags, block_statistics, coverage_reference, limits
from pipeline.shift.dispersion import dispersion, stream_dispersion
from pipeline.shift.evidence import advance, apply_map, clock, flag_increments, merge_maps, tick_map
from pipeline.shift.fdr import e_bh
from pipeline.shift.histogram import bin_of, edge_ranks, expected_shares, rank_edges
from pipeline.shift.ladder import (
    R_DOWN,
    R_UP,
    Decision,
    Flags,
    State,
    decide,
    log_evidence,
    log_reverse,
    new_streams,
    observe,
)
from pipeline.shift.signals import (
    COVERAGE_LOG_WEIGHTS,
    LOG_WEIGHTS_DOWN,
    RATE_LOG_WEIGHTS,
    class_bounds,
    class_increments,
    class_log_weights,
    coverage_increments,
    histogram_increments,
    histogram_library,
    rate_bounds,
    rate_increments,
)
from pipeline.shift.silence import silence
from pipeline.shift.threshold import clopper_pearson, conformal_rank, conformal_threshold, flag_rate_bounds

named = os.environ.get("DETECTOR_VECTORS")  # noqa: TID251 a test's own
FILE = Path(named) if named else Path(__file__).parents[2] / "golden" / "detector_vectors.json"
CASES: list[dict[str, Any]] = json.loads(FILE.read_text())["cases"]
BUDGET, LEVELS = Budget(), Thresholds()


def of_kind(kind: str) -> pytest.MarkDecorator:
    cases = [case for case in CASES if case["kind"] == kind]
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


def close(actual: Any, expected: Any) -> None:
    """To 1e-9, relative above 1; null is −∞."""
    got, wanted = numbers(actual), numbers(expected)
    assert got.shape == wanted.shape
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(got[~finite], wanted[~finite])
    error = np.abs(got[finite] - wanted[finite]) / np.maximum(1, np.abs(wanted[finite]))
    assert error.max(initial=0) <= 1e-9


def numbers(values: Any) -> Float64s:
    flat = np.array(values, dtype=object)
    return np.array([-np.inf if value is None else value for value in flat.ravel()], float).reshape(flat.shape)


def per_tick(value: Any, count: int) -> list[Any]:
    return value if isinstance(value, list) else [value] * count


def runs(series: Sequence[Any]) -> list[list[Any]]:
    lengths: list[list[Any]] = []
    for state in series:
        if lengths and lengths[-1][0] == state:
            lengths[-1][1] += 1
        else:
            lengths.append([state, 1])
    return lengths


def transition(t: int, decision: Decision, row: int) -> list[Any] | None:
    """[tick, from, to, onset, k, n, low, high], as the file writes it."""
    before, after = State(int(decision.before[row])), State(int(decision.after[row]))
    if after == before:
        return None
    onset: list[Any] = [None] * 5
    if decision.onset[row]:
        k, n, d = decision.k[row], decision.n[row], decision.d[row]
        onset = [int(decision.t0[row]), k, n, *clopper_pearson(k / d, n / d)]
    return [t, str(before), str(after), *onset]


class Run:
    """One ladder stream, tick by tick."""

    def __init__(self, log_threshold: float, levels: Thresholds) -> None:
        self.streams = new_streams(1)
        self.log_threshold, self.levels = log_threshold, levels

    def observe(self, t: int, minutes: float, n: float, k: float, q: float, d: float) -> None:
        if n > 0:
            flags = Flags(*(np.array([float(value)]) for value in (n, k, q, d)))
            observe(self.streams, np.array([0]), t, minutes, flags, BUDGET, self.levels)

    def decide(self) -> Decision:
        null, warning = log_evidence(self.streams)
        over, over_warning = null >= self.log_threshold, warning >= self.log_threshold
        return decide(self.streams, null, over, over_warning, BUDGET, self.levels)

    def evidence(self) -> list[float]:
        null, warning = log_evidence(self.streams)
        return [null[0], warning[0], log_reverse(self.streams)[0]]


def matches(transitions: list[list[Any]], expected: list[list[Any]]) -> None:
    assert [[value for value in line if isinstance(value, str)] for line in transitions] == [
        [value for value in line if isinstance(value, str)] for line in expected
    ]
    for line, wanted in zip(transitions, expected, strict=True):
        close(
            [value for value in line if not isinstance(value, str)],
            [value for value in wanted if not isinstance(value, str)],
        )


@of_kind("fraction")
def test_the_ladder_of_one_stream(case: dict[str, Any]) -> None:
    p, given, expected = case["parameters"], case["input"], case["expected"]
    count = len(given["n"])
    columns = [per_tick(p[name], count) for name in ("minutes", "q", "D")]
    run = Run(p["log_threshold"], Thresholds(p["warn"], p["critical"]))
    series, states, transitions = [], [], []
    for t, (n, k, minutes, q, d) in enumerate(zip(given["n"], given["k"], *columns, strict=True)):
        run.observe(t, minutes, n, k, q, d)
        series.append(run.evidence())
        decision = run.decide()
        states.append(str(State(int(decision.after[0]))))
        if (line := transition(t, decision, 0)) is not None:
            transitions.append(line)
    assert runs(states) == expected["state"]
    matches(transitions, expected["transitions"])
    every = expected.get("every", 1)
    kept = sorted({*range(0, count, every), count - 1})
    for column, name in enumerate(("log_m", "log_m_warn", "log_m_reverse")):
        wanted = expected[name] if name in expected else expected[f"{name}_every"]
        close([series[t][column] for t in kept], wanted)


@of_kind("segments")
def test_segments_and_the_pooled_stream(case: dict[str, Any]) -> None:
    p, expected, levels = case["parameters"], case["expected"], Thresholds()
    n, k = np.array(case["input"]["n"], float), np.array(case["input"]["k"], float)
    q = np.array(p["q_s"])
    segments, pooled = new_streams(len(q)), Run(p["log_threshold_pooled"], levels)
    evidence, rejected, q_pooled, log_pooled = [], [], [], []
    states: list[list[str]] = [[] for _ in range(len(q) + 1)]
    transitions: list[list[list[Any]]] = [[], []]
    for t in range(len(n)):
        rows = np.flatnonzero(n[t] > 0)
        observe(segments, rows, t, 1, Flags(n[t, rows], k[t, rows], q[rows], np.ones(len(rows))), BUDGET, levels)
        q_pooled.append(float((n[t] * q).sum() / n[t].sum()))
        pooled.observe(t, 1, n[t].sum(), k[t].sum(), q_pooled[-1], 1)
        evidence.append(log_evidence(segments))
        over, over_warning = (e_bh(log_m, p["log_threshold"]) for log_m in evidence[-1])
        rejected.append((over, over_warning))
        log_pooled.append(pooled.evidence()[0])
        of_segments = decide(segments, evidence[-1][0], over, over_warning, BUDGET, levels)
        of_pooled = pooled.decide()
        for row, state in enumerate([*of_segments.after, *of_pooled.after]):
            states[row].append(str(State(int(state))))
        lines = [transition(t, of_segments, row) for row in range(len(q))]
        transitions[0] += [[row, *line] for row, line in enumerate(lines) if line is not None]
        transitions[1] += [line for line in [transition(t, of_pooled, 0)] if line is not None]
    close(np.array(evidence)[:, 0], expected["log_m"])
    close(np.array(evidence)[:, 1], expected["log_m_warn"])
    assert [over.tolist() for over, _ in rejected] == expected["rejected"]
    assert [over.tolist() for _, over in rejected] == expected["rejected_warn"]
    assert [runs(series) for series in states] == [*expected["state"], expected["pooled"]["state"]]
    matches(transitions[0], expected["transitions"])
    matches(transitions[1], expected["pooled"]["transitions"])
    close(q_pooled, expected["pooled"]["q"])
    close(log_pooled, expected["pooled"]["log_m"])


@of_kind("e_bh")
def test_e_bh(case: dict[str, Any]) -> None:
    threshold = case["parameters"]["log_threshold"]
    assert [e_bh(np.array(values, float), threshold).tolist() for values in case["input"]] == case["expected"]


@of_kind("calibration")
def test_threshold_bounds_edges_and_intervals(case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    found = []
    for n, alpha in given["n_alpha"]:
        m = conformal_rank(n, alpha)
        low, high = flag_rate_bounds(n, m)
        found.append([m, high, low])
    close(found, expected["m_hi_lo"])
    energies, probe = np.array(given["energies"]), np.array(given["probe"])
    threshold, m = conformal_threshold(energies, given["alpha"])
    assert (m, threshold) == (expected["m"], expected["threshold"])
    assert (probe > threshold).tolist() == expected["probe_flag"]
    assert edge_ranks(len(energies)).tolist() == expected["ranks"]
    assert rank_edges(np.sort(energies)).tolist() == expected["edges"]
    assert bin_of(probe, rank_edges(np.sort(energies))).tolist() == expected["probe_bin"]
    close([clopper_pearson(k, n) for k, n in given["k_n"]], expected["interval"])


@of_kind("merge")
def test_hours_from_minutes(case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    n, k = np.array(given["n"], float), np.array(given["k"], float)
    q = np.full(len(n), case["parameters"]["q"])
    increments = flag_increments(k, n, q, R_UP)
    clocks = clock(case["parameters"]["minutes"], n, BUDGET.minutes, BUDGET.images)
    maps = [tick_map(increments[t : t + 1], clocks[t : t + 1]) for t in range(len(n))]
    for sizes in given["groups"]:
        ends = np.cumsum(sizes)
        hours = [reduce(merge_maps, maps[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
        whole = reduce(merge_maps, hours)
        close(np.vstack(whole).T, expected["map_all"])
        if sizes == [60, 60]:
            close([np.vstack(hour).T for hour in hours], expected["maps_2_hours"])
    ell = np.full((1, len(R_UP)), -np.inf)
    for t in range(len(n)):
        ell = advance(ell, clocks[t : t + 1], increments[t : t + 1])
    close(ell[0], expected["ell"])
    close(apply_map(np.full((1, len(R_UP)), -np.inf), *whole)[0], expected["ell_from_map"])
    close(apply_map(np.full((1, len(R_UP)), 2.0), *whole)[0], expected["ell_from_map_starting_at_2"])


@of_kind("late")
def test_revised_ticks_are_replayed_from_the_checkpoint_and_decided_once(case: dict[str, Any]) -> None:
    p, given, expected = case["parameters"], case["input"], case["expected"]
    run = Run(p["log_threshold"], Thresholds(p["warn"], p["critical"]))
    n, k = list(given["n"]), list(given["k"])
    for t in range(len(n)):
        run.observe(t, p["minutes"], n[t], k[t], p["q"], 1)
        before = run.evidence()[0]
        after = run.decide().after[0]
        if t == p["checkpoint"]:
            checkpoint = run.streams.copy()
    close(before, expected["log_m_before"])
    assert str(State(int(after))) == expected["state_before"]
    for t, revised_n, revised_k in given["revised"]:
        if t > p["checkpoint"]:
            n[t], k[t] = revised_n, revised_k
    run.streams = checkpoint
    for t in range(p["checkpoint"] + 1, len(n)):
        run.observe(t, p["minutes"], n[t], k[t], p["q"], 1)
    close(run.evidence()[:2], [expected["log_m_after"], expected["log_m_warn_after"]])
    decision = run.decide()
    assert str(State(int(decision.after[0]))) == expected["state_after"]
    assert [decision.t0[0], decision.k[0], decision.n[0]] == expected["onset"]


class Signal:
    """One auxiliary stream, tick by tick, and what the file says of it."""

    def __init__(self, log_weights: Float64s, log_threshold: float) -> None:
        self.streams = auxiliary.new_streams(1, len(log_weights))
        self.log_weights, self.log_threshold = log_weights, log_threshold
        self.series: list[float] = []
        self.states: list[int] = []
        self.crossings: list[list[float]] = []

    def tick(self, t: int, minutes: float, spent: float, increments: Float64s | None) -> None:
        if increments is None:
            self.series.append(self.series[-1])
            self.states.append(self.states[-1])
            return
        auxiliary.observe(self.streams, np.array([0]), t, minutes, np.array([spent]), increments)
        log_m = auxiliary.log_evidence(self.streams, self.log_weights)
        found = auxiliary.decide(self.streams, log_m, log_m >= self.log_threshold, self.log_weights)
        self.series.append(float(log_m[0]))
        self.states.append(int(found.after[0]) - State.OK)
        if found.crossed[0]:
            self.crossings.append([t, int(found.t0[0]), int(found.leading[0]), float(found.delay[0])])

    def matches(self, expected: dict[str, Any]) -> None:
        close(self.series, expected["log_m"])
        assert runs(self.states) == expected["state"]
        close(self.crossings, expected["crossings"])


def spent(minutes: float, n: float) -> float:
    return float(clock(minutes, np.array([n]), BUDGET.minutes, BUDGET.images)[0])


@of_kind("histogram")
def test_the_score_histogram(case: dict[str, Any]) -> None:
    p, expected = case["parameters"], case["expected"]
    library = histogram_library(p["n_cal"])
    if "library" in expected:
        close(expected_shares(p["n_cal"]), expected["library"]["p"])
        log_ratios = library.log_ratios - library.penalty[:, None]
        close(log_ratios[[0, 11, 29]], expected["library"]["log_ratio_rows_0_11_29"])
        close(library.log_weights[[0, 29]], expected["library"]["log_w_0_29"])
    signal = Signal(library.log_weights, p["log_threshold"])
    counts = np.array(case["input"]["counts"], float)
    for t, row in enumerate(counts):
        d = np.array([float(p["D"])])
        increments = histogram_increments(row[None], d, library, library.penalty) if row.any() else None
        signal.tick(t, p["minutes"], spent(p["minutes"], row.sum() / p["D"]), increments)
    signal.matches(expected)


@of_kind("low")
def test_the_low_side(case: dict[str, Any]) -> None:
    p, given = case["parameters"], case["input"]
    signal = Signal(LOG_WEIGHTS_DOWN, p["log_threshold"])
    for t, (n, k) in enumerate(zip(given["n"], given["k"], strict=True)):
        hits, images, q = (np.array([float(value)]) for value in (k, n, p["q"]))
        increments = flag_increments(hits, images, q, R_DOWN) if n else None
        signal.tick(t, p["minutes"], spent(p["minutes"], n), increments)
    signal.matches(case["expected"])


@of_kind("classes")
def test_the_class_mix(case: dict[str, Any]) -> None:
    p, expected = case["parameters"], case["expected"]
    bounds = class_bounds(np.array(p["reference_counts"]))
    close(bounds.low, expected["pi_lo"])
    close(bounds.high, expected["pi_hi"])
    signal = Signal(class_log_weights(bounds), p["log_threshold"])
    for t, counts in enumerate(np.array(case["input"]["counts"], float)):
        increments = class_increments(counts, 1.0, bounds) if counts.any() else None
        signal.tick(t, p["minutes"], spent(p["minutes"], counts.sum()), increments)
    signal.matches(expected)


@of_kind("coverage")
def test_coverage(case: dict[str, Any]) -> None:
    p, given, expected = case["parameters"], case["input"], case["expected"]
    reference = coverage_reference(
        p["n_cal"],
        np.array(p["mu"]),
        np.array(p["sigma"]),
        np.array([float(size) for size in p["t2_null"]]),
        np.array(list(p["t2_null"].values())),
        np.array(list(p["logdet_null"].values())),
        alpha=p["alpha"],
    )
    signal = Signal(COVERAGE_LOG_WEIGHTS, p["log_threshold"])
    blocks: list[list[float]] = []
    n = minutes = clocks = 0.0
    z_sum, z_outer = np.zeros(len(reference.mean)), np.zeros_like(reference.covariance)
    for t, z_n in enumerate(given["z_n"]):
        n, minutes, clocks = n + z_n, minutes + p["minutes"], clocks + spent(p["minutes"], z_n)
        z_sum, z_outer = z_sum + given["z_sum"][t], z_outer + given["z_outer"][t]
        if n < p["block"]:
            continue
        statistics, limit = block_statistics(n, z_sum, z_outer, reference), limits(n, reference)
        signal.tick(len(blocks), minutes, clocks, coverage_increments(block_flags(statistics, limit), reference.q))
        blocks.append([t, n, *statistics, *limit, reference.q])
        n = minutes = clocks = 0.0
        z_sum, z_outer = np.zeros_like(z_sum), np.zeros_like(z_outer)
    close(blocks, expected["blocks"])
    signal.matches(expected)


@of_kind("traffic")
def test_rate_and_silence(case: dict[str, Any]) -> None:
    p, expected = case["parameters"], case["expected"]
    bounds = rate_bounds(p["baseline_images"], p["baseline_minutes"], p["phi"])
    close([bounds.low, bounds.high], [expected["rate_lo"], expected["rate_hi"]])
    signal = Signal(RATE_LOG_WEIGHTS, p["log_threshold"])
    normal = Normal(np.zeros(48), np.ones(48), 1.0, None)
    watched = Baseline(days=1, pooled=normal, segments={}, rates=(bounds,) * 168)
    waited, silent = [], []
    last = start = datetime(2026, 1, 5, tzinfo=UTC)
    for t, n in enumerate(case["input"]["n"]):
        signal.tick(t, p["minutes"], p["minutes"], rate_increments(n, p["minutes"], bounds))
        now = start + timedelta(minutes=p["minutes"] * (t + 1))
        last = now if n else last
        found = silence(watched, BUDGET, last_image=last, now=now)
        waited.append(found.expected)
        silent.append(found.silent)
    signal.matches(expected)
    close(waited, expected["expected_images"])
    assert runs(silent) == expected["no_data"]


@of_kind("dispersion")
def test_dispersion(case: dict[str, Any]) -> None:
    p, expected = case["parameters"], case["expected"]
    counts = np.array(case["input"]["counts"], float)
    n, k = counts.sum(axis=1), counts[:, 14:].sum(axis=1)
    close(dispersion(n, k, p["p"]), expected["D_flags"])
    upper = 1 - edge_ranks(p["n_cal"])[8] / (p["n_cal"] + 1)
    close(stream_dispersion(n, k, p["p"], counts, upper), expected["D"])


def test_dispersion_of_bursts() -> None:
    cases = [case for case in CASES if "baseline_n" in case.get("input", {})]
    for case in cases:
        n, k = (np.array(case["input"][f"baseline_{name}"], float) for name in "nk")
        close(dispersion(n, k, case["input"]["baseline_p"]), case["expected"]["D"])
    assert cases


def test_every_case_is_of_a_kind_that_is_tested() -> None:
    kinds = {"calibration", "fraction", "segments", "e_bh", "merge", "late"}
    kinds |= {"histogram", "low", "classes", "coverage", "traffic", "dispersion"}
    assert {case["kind"] for case in CASES} <= kinds
