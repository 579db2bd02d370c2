"""What the rules about causes look at: two windows, and the handful of numbers that tell them apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from pipeline.alerts.profile import PROPERTIES, STILL, Move, Profile, distance, moves
from pipeline.records import Float64s

#: Bins of the score histogram below the threshold of a reference that flags 5 %.
BELOW = 14
_VISIBLE = 0.1  # total variation


@dataclass(frozen=True, slots=True)
class ModelChange:
    """Another reference began to score."""

    at: datetime  # event time
    before: str  # the reference's name
    after: str
    model_changed: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """What people said that they did."""

    at: datetime
    text: str
    who: str


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that the rules look at. Profiles are of the segments that changed; of all where none stands out."""

    onset: datetime
    before: Profile
    now: Profile
    normal: float  # share of flagged images
    segments: int  # with traffic now
    changed: Sequence[str]  # those of them that changed
    classes: Sequence[str]
    rate_before: float  # images a minute, all segments
    rate_now: float
    d: float = 1.0  # images that count as one
    silent: bool = False  # an alert says that images stay out
    changes: Sequence[ModelChange] = ()
    invalid: str = ""  # why scores cannot be held against the reference, where that is so
    marks: Sequence[Mark] = ()
    card: Mapping[str, Float64s] = field(default_factory=dict)  # score histogram by kind of damage, (18,) each


@dataclass(frozen=True, slots=True, eq=False)
class Signs:
    """What the rules share, worked out once."""

    moves: Mapping[str, Move]
    scores: float  # h
    below: float  # the same of the images below the threshold
    classes: float  # y
    flags: float  # f
    repeats: float  # r
    everywhere: float  # share of segments that changed
    like: tuple[str, float] | None  # the kind of damage whose histogram is nearest, and how near: 0 no, 1 the same

    @property
    def looks(self) -> float:
        """How far brightness, contrast or sharpness moved."""
        return max(self.moves[name].moved for name in ("brightness", "contrast", "sharpness"))


def ramp(x: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high`, linear between."""
    return min(1.0, max(0.0, (x - low) / (high - low)))


def signs(evidence: Evidence) -> Signs:
    """From two windows to a handful of numbers."""
    before, now, d = evidence.before, evidence.now, evidence.d
    return Signs(
        moves=moves(before, now, d) if now.n else dict.fromkeys(PROPERTIES, STILL),
        scores=distance(before.histogram, now.histogram, d),
        below=distance(before.histogram[:BELOW], now.histogram[:BELOW], d),
        classes=distance(before.class_counts, now.class_counts, d),
        flags=now.flag_share - evidence.normal if now.n else 0.0,
        repeats=now.repeat_share - before.repeat_share,
        everywhere=min(1.0, len(evidence.changed) / evidence.segments) if evidence.segments else 0.0,
        like=_like(evidence),
    )


def _like(evidence: Evidence) -> tuple[str, float] | None:
    """The damage on the reference's blind-spot card that the scores resemble most.

    Scores that are nearly as before resemble none, and damage that leaves scores as they are is not looked at.
    """
    before, now = evidence.before, evidence.now
    if not before.n or not now.n:
        return None
    usual, shares = before.histogram / before.n, now.histogram / now.n
    known = {kind: of for kind, of in evidence.card.items() if _apart(of, usual) >= _VISIBLE}
    if not known or _apart(shares, usual) < _VISIBLE:
        return None
    apart = {kind: _apart(shares, of) for kind, of in known.items()}
    nearest = min(apart, key=lambda kind: (apart[kind], kind))
    # Where nearly all are far beyond the reference, all kinds of damage look alike.
    near = (1 - ramp(apart[nearest], 0.05, 0.3)) * (1 - ramp(float(shares[-1]), 0.5, 0.95))
    return (nearest, near) if near > 0 else None


def _apart(one: Float64s, other: Float64s) -> float:
    """Total variation of two histograms of shares."""
    return float(0.5 * np.abs(one - other).sum())
