"""Signals with two states, ok and shift: the same recursion as the ladder's, with other increments.

Every crossing restarts the evidence, so that each is paid for by the budget, and holds the state for
max(60 min, four times the delay of the crossing); evidence that crosses again prolongs it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Float64s, Ints
from pipeline.shift.evidence import Streams, advance, leading, log_mixture, of_leading, onset_fields, track_onset
from pipeline.shift.ladder import State

HOLD_MINUTES = 60.0
HOLD_FACTOR = 4.0
_ROUNDING = 1e-9  # minutes; sums of tick lengths are floats


class Crossings(NamedTuple):
    """All streams as they stood when it was decided, before a restart; all (S,)."""

    before: Ints
    after: Ints
    log_evidence: Float64s
    onset: NDArray[np.bool_]  # whether there is one
    t0: Ints
    crossed: NDArray[np.bool_]
    leading: Ints  # component, where crossed or cleared
    delay: Float64s  # minutes with data since the onset, where crossed


def new_streams(count: int, components: int) -> Streams:
    """Streams that have seen nothing."""
    fields = [
        ("ell", "<f8", (components,)),
        *onset_fields(components, "minutes"),
        ("hold", "<f8"),
        ("t", "<i8"),  # the last tick with data, and its minutes
        ("last", "<f8"),
        ("state", "<i8"),
        ("fresh", "<i8"),  # 1: evidence came since the last decision
    ]
    streams = np.zeros(count, dtype=np.dtype(fields))
    streams["ell"] = -np.inf
    return streams


def observe(streams: Streams, rows: Ints, t: int, minutes: float, clocks: Float64s, increments: Float64s) -> None:
    """The evidence of one tick of `minutes`, in place; `rows` are the streams that had data."""
    every = len(rows) == len(streams)
    s = streams if every else streams[rows]
    track_onset(s, t, increments, minutes=np.full(len(rows), minutes))
    s["ell"] = advance(s["ell"], clocks, increments)
    s["hold"] -= minutes
    s["t"], s["last"], s["fresh"] = t, minutes, 1
    s["state"] = np.maximum(s["state"], State.OK)
    if not every:
        streams[rows] = s


def decide(streams: Streams, evidence: Float64s, over: NDArray[np.bool_], log_weights: Float64s) -> Crossings:
    """Crossings and returns to ok, in place; streams without new data stay as they are.

    Args:
        evidence: log M; over: whether it is.
        log_weights: (J,) of the components: the leading one has the largest log w_j + ℓ_j.
    """
    crossed = over & (streams["fresh"] == 1)
    j, onset = leading(streams)
    before = streams["state"].copy()
    t0 = np.where(onset, of_leading(streams, "t0", j), streams["t"])
    delay = np.where(onset, of_leading(streams, "minutes", j), streams["last"])
    cleared = ~crossed & (before == State.SHIFT) & (streams["hold"] <= _ROUNDING)
    moved = np.flatnonzero(crossed | cleared)
    component = np.zeros(len(streams), np.int64)
    component[moved] = np.argmax(streams["ell"][moved] + log_weights, axis=1)
    after = np.where(crossed, State.SHIFT, np.where(cleared, State.OK, before))
    streams["state"] = after
    streams["fresh"] = 0
    streams["hold"] = np.where(crossed, np.maximum(HOLD_MINUTES, HOLD_FACTOR * delay), np.maximum(streams["hold"], 0))
    streams["ell"][crossed] = -np.inf
    for name in ("c", "t0", "minutes"):
        streams[name][crossed] = 0
    return Crossings(before, after, evidence, onset | crossed, t0, crossed, component, delay)


def log_evidence(streams: Streams, log_weights: Float64s) -> Float64s:
    """log M of each stream, (S,)."""
    return log_mixture(streams["ell"], log_weights)


@dataclass(slots=True, eq=False)
class Signal:
    """One signal's streams, what they bet on, and when they are over."""

    log_weights: Float64s  # (J,)
    components: tuple[str, ...]  # names of the bets
    log_threshold: float
    streams: Streams

    def evidence(self) -> Float64s:
        """log M of each stream, (S,)."""
        return log_evidence(self.streams, self.log_weights)

    def grow(self, count: int) -> None:
        """Have `count` streams; new ones have seen nothing."""
        fresh = new_streams(count - len(self.streams), len(self.log_weights))
        self.streams = np.concatenate([self.streams, fresh])

    def decide(self, evidence: Float64s, over: NDArray[np.bool_]) -> Crossings:
        """See the function."""
        return decide(self.streams, evidence, over, self.log_weights)


def signal(log_weights: Float64s, components: tuple[str, ...], log_threshold: float) -> Signal:
    """A signal without streams."""
    return Signal(log_weights, components, log_threshold, new_streams(0, len(log_weights)))
