"""What a detector says of a tick, and what the monitor needs of a detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pipeline.shift.folding import Tick


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state; k flags of n images since the onset, where there is one."""

    before: str
    after: str
    k: float | None
    n: float | None
    leading: str  # which component has most evidence


@dataclass(frozen=True, slots=True)
class StreamVerdict:
    """One stream of evidence after a tick."""

    stream: str  # pooled, segment:NAME, histogram, histogram:NAME, low, ...
    state: str
    log_evidence: float  # nats
    onset: datetime | None
    share: float | None  # of flagged images since the onset
    low: float | None  # its interval
    high: float | None
    transition: Transition | None = None
    crossed: bool = False  # evidence was over its limit and starts anew, also without a change of state


class Silence(Protocol):
    """Whether images are missing."""

    @property
    def silent(self) -> bool:
        """More of them than chance and normal pauses explain."""

    @property
    def expected(self) -> float:
        """Images that normal traffic would have brought."""


class Evaluator(Protocol):
    """The detector of one (deployment, reference). Deterministic: same ticks, same bits."""

    def step(self, tick: Tick) -> Sequence[StreamVerdict]:
        """Take a tick in and decide. Ticks come once each, in event-time order."""

    def advance(self, tick: Tick) -> None:
        """Take a revised tick in without deciding."""

    def decide(self) -> Sequence[StreamVerdict]:
        """Decide once at the newest tick, after `advance`."""

    def silence(self, *, last_image: datetime, now: datetime) -> Silence | None:
        """Judge the absence of images, in processing time; asked at every run. None: it cannot."""

    def snapshot(self) -> bytes:
        """All that it knows."""
