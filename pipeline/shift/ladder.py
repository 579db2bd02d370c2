"""The OOD fraction's states: ok → shift → warning → critical, for many streams at once.

Three mixtures a stream: evidence against the null q, against the warning level, and, from shift
on, reverse evidence against the present state's clear level. A stream is raised by evidence and
graded by the share of flags since its onset; it goes down one rung at a time, and every step down
resets everything: the evidence of an incident takes hours to fade, and reset on `ok` alone it
raised 38 warnings after a four-hour incident.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Float64s, Ints
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.evidence import (
    Streams,
    advance,
    clock,
    flag_increments,
    leading,
    log_mixture,
    of_leading,
    onset_fields,
    track_onset,
)

#: Odds ratios of the bets on more flags and on fewer; equal weights.
R_UP: Float64s = 1.4 * 2.2 ** np.arange(6.0)
R_DOWN: Float64s = np.array([0.8, 0.6, 0.4, 0.2])
_LOG_WEIGHT_UP, _LOG_WEIGHT_DOWN = -math.log(len(R_UP)), -math.log(len(R_DOWN))

#: Where between the level below and its own a state's clear level lies.
CLEAR_SHIFT, CLEAR_ABOVE = 0.50, 0.75


class State(IntEnum):
    """What the detector says of a stream; ordered."""

    NO_DATA = 0
    OK = 1
    SHIFT = 2
    WARNING = 3
    CRITICAL = 4

    def __str__(self) -> str:
        return self.name.lower()


LADDER = np.dtype(
    [
        ("null", "<f8", (len(R_UP),)),
        ("warning", "<f8", (len(R_UP),)),
        ("reverse", "<f8", (len(R_DOWN),)),
        *onset_fields(len(R_UP), "k", "n"),
        ("d", "<f8"),
        ("state", "<i8"),
    ]
)


def new_streams(count: int) -> Streams:
    """Streams that have seen nothing."""
    streams = np.zeros(count, dtype=LADDER)
    streams["d"] = 1.0
    for name in ("null", "warning", "reverse"):
        streams[name] = -np.inf
    return streams


@dataclass(frozen=True, slots=True)
class Flags:
    """What a tick says of the streams that had images: n, k (S,) undivided; null fraction q and dispersion D."""

    n: Float64s
    k: Float64s
    q: Float64s
    d: Float64s


class Decision(NamedTuple):
    """All streams as they stood when it was decided, before a reset; all (S,)."""

    before: Ints
    after: Ints
    log_evidence: Float64s
    onset: NDArray[np.bool_]  # whether there is one
    t0: Ints
    k: Float64s
    n: Float64s
    d: Float64s
    leading: Ints  # component


def observe(
    streams: Streams, rows: Ints, t: int, minutes: float, flags: Flags, budget: Budget, thresholds: Thresholds
) -> None:
    """The evidence of one tick, in place; `rows` are the streams that had images (n > 0), one row of flags each."""
    every = len(rows) == len(streams)
    s = streams if every else streams[rows]
    n, k = flags.n / flags.d, flags.k / flags.d
    clocks = clock(minutes, n, budget.minutes, budget.images)
    up = flag_increments(k, n, flags.q, R_UP)
    track_onset(s, t, up, k=flags.k, n=flags.n)
    s["null"] = advance(s["null"], clocks, up)
    against_warning = flag_increments(k, n, np.full(len(rows), thresholds.warning), R_UP)
    s["warning"] = advance(s["warning"], clocks, against_warning)
    raised = np.flatnonzero(s["state"] >= State.SHIFT)
    if len(raised):
        level = clear_level(s["state"][raised], flags.q[raised], thresholds)
        down = flag_increments(k[raised], n[raised], level, R_DOWN)
        clocks = clock(minutes, n[raised], budget.reverse_minutes, budget.reverse_images)
        s["reverse"][raised] = advance(s["reverse"][raised], clocks, down)
    s["state"] = np.maximum(s["state"], State.OK)
    s["d"] = flags.d
    if not every:
        streams[rows] = s


def clear_level(state: Ints, q: Float64s, thresholds: Thresholds) -> Float64s:
    """The flagged share below which a state is left, for states from shift on."""
    warn, critical = thresholds.warning, thresholds.critical
    above_null = q + np.where(state == State.SHIFT, CLEAR_SHIFT, CLEAR_ABOVE) * (warn - q)
    return np.where(state == State.CRITICAL, warn + CLEAR_ABOVE * (critical - warn), above_null)


def log_evidence(streams: Streams) -> tuple[Float64s, Float64s]:
    """log M against the null and against the warning level, (S,) each."""
    return log_mixture(streams["null"], _LOG_WEIGHT_UP), log_mixture(streams["warning"], _LOG_WEIGHT_UP)


def log_reverse(streams: Streams) -> Float64s:
    """log M of the reverse evidence, (S,)."""
    return log_mixture(streams["reverse"], _LOG_WEIGHT_DOWN)


def decide(
    streams: Streams,
    evidence: Float64s,
    over: NDArray[np.bool_],
    over_warning: NDArray[np.bool_],
    budget: Budget,
    thresholds: Thresholds,
) -> Decision:
    """One transition a stream at most, up before down, in place.

    Args:
        evidence: log M against the null.
        over, over_warning: whether the evidence against the null, and against the warning level, is over.
    """
    j, onset = leading(streams)
    k, n, d = of_leading(streams, "k", j), of_leading(streams, "n", j), streams["d"].copy()
    graded = onset & (n / d >= thresholds.images)
    share = np.divide(k, n, out=np.full(len(n), -1.0), where=graded)
    before = streams["state"].copy()
    target = np.where(over, State.SHIFT, State.OK)
    target[over & (share >= thresholds.warning)] = State.WARNING
    target[over & over_warning & (share >= thresholds.critical)] = State.CRITICAL
    up = (before >= State.OK) & (target > before)
    down = np.zeros(len(streams), dtype=np.bool_)
    candidates = np.flatnonzero((before >= State.SHIFT) & ~up)
    down[candidates] = log_reverse(streams[candidates]) >= budget.log_reverse
    after = np.where(up, target, before - down)
    decision = Decision(before, after, evidence, onset, of_leading(streams, "t0", j), k, n, d, j)
    streams["state"] = after
    streams["reverse"][up] = -np.inf
    if down.any():
        fresh = new_streams(int(down.sum()))
        fresh["d"], fresh["state"] = d[down], after[down]
        streams[down] = fresh
    return decision
