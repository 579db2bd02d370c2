"""What the detector says after a tick, one line a stream."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from pipeline.shift.auxiliary import Crossings
from pipeline.shift.ladder import R_UP, Decision, State
from pipeline.shift.threshold import clopper_pearson_bounds
from pipeline.shift.tick import from_us

LEARNING = "learning"  # instead of a state, while the reference is too small to raise anything
#: Why a stream is ok again that no evidence brought back; stands for the leading component.
BEGINS_ANEW, REPLACED = "begins anew", "replaced"
_NAMES = {int(state): str(state) for state in State}


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state; k flags of n images since the onset, for the OOD fraction where there is one."""

    before: str
    after: str
    k: float | None
    n: float | None
    leading: str  # the component whose bet pays best: how large, or where


@dataclass(frozen=True, slots=True)
class StreamVerdict:
    """One stream after a tick. Evidence, onset and share are those of the decision, before a reset by it."""

    stream: str  # pooled, segment:NAME, histogram, histogram:NAME, low, classes, coverage, rate
    state: str  # no_data, learning, ok, shift, warning, critical
    log_evidence: float  # log M, nats; −inf before any
    onset: datetime | None  # start of the tick since which the evidence grows
    share: float | None  # of flagged images since the onset; OOD fraction only
    low: float | None  # its 95 % interval, on effective counts; the data chose the onset: for display
    high: float | None
    transition: Transition | None = None
    crossed: bool = False  # an auxiliary signal's evidence was over and starts anew, also within shift


def withdrawn(stream: str, state: str, why: str) -> StreamVerdict:
    """Back to ok without evidence: nobody judges any more what raised the stream."""
    return StreamVerdict(
        stream, str(State.OK), -math.inf, None, None, None, None, Transition(state, "ok", None, None, why)
    )


def ladder_verdicts(names: Sequence[str], decision: Decision, *, learning: bool) -> list[StreamVerdict]:
    """Verdicts of the OOD fraction's streams."""
    known = decision.onset & (decision.n > 0)
    share, low, high = (np.full(len(names), np.nan) for _ in range(3))
    k, n, d = decision.k[known], decision.n[known], decision.d[known]
    share[known] = k / n
    low[known], high[known] = clopper_pearson_bounds(k / d, n / d)
    columns = zip(
        names,
        decision.before.tolist(),
        decision.after.tolist(),
        decision.log_evidence.tolist(),
        decision.onset.tolist(),
        decision.t0.tolist(),
        known.tolist(),
        zip(share.tolist(), low.tolist(), high.tolist(), strict=True),
        zip(decision.k.tolist(), decision.n.tolist(), decision.leading.tolist(), strict=True),
        strict=True,
    )
    return [
        StreamVerdict(
            name,
            LEARNING if learning and after != State.NO_DATA else _NAMES[after],
            log_m,
            from_us(t0) if onset else None,
            interval[0] if shown else None,
            interval[1] if shown else None,
            interval[2] if shown else None,
            None
            if before == after
            else Transition(
                _NAMES[before],
                _NAMES[after],
                since[0] if shown else None,
                since[1] if shown else None,
                f"odds ×{R_UP[since[2]]:.3g}",
            ),
        )
        for name, before, after, log_m, onset, t0, shown, interval, since in columns
    ]


def auxiliary_verdicts(
    names: Sequence[str], components: Sequence[str], crossings: Crossings, *, learning: bool
) -> list[StreamVerdict]:
    """Verdicts of a signal with two states; `components` name what its bets are on."""
    columns = zip(
        names,
        crossings.before.tolist(),
        crossings.after.tolist(),
        crossings.log_evidence.tolist(),
        crossings.onset.tolist(),
        crossings.t0.tolist(),
        crossings.leading.tolist(),
        crossings.crossed.tolist(),
        strict=True,
    )
    return [
        StreamVerdict(
            name,
            LEARNING if learning and after != State.NO_DATA else _NAMES[after],
            log_m,
            from_us(t0) if onset else None,
            None,
            None,
            None,
            None if before == after else Transition(_NAMES[before], _NAMES[after], None, None, components[leading]),
            crossed,
        )
        for name, before, after, log_m, onset, t0, leading, crossed in columns
    ]
