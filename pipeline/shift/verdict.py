"""What a detector says of a tick, and what the monitor needs of a detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from pipeline.shift.folding import Tick


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of one stream of evidence after a tick."""

    stream: str  # pooled, segment:NAME, histogram, histogram:NAME, low, ...
    tick: datetime  # start of the newest tick that it knows
    state: str
    log_evidence: float  # natural log
    onset: datetime | None
    onset_n: int  # images since the onset
    onset_flags: int
    low: float | None  # interval of the share of flags since the onset
    high: float | None


@dataclass(frozen=True, slots=True)
class Transition:
    """A stream left a state, or crossed its threshold anew."""

    from_state: str
    verdict: Verdict


class Decision(NamedTuple):
    """All streams as they stand, and which of them have just changed."""

    verdicts: Sequence[Verdict] = ()
    transitions: Sequence[Transition] = ()


class Evaluator(Protocol):
    """The detector of one (deployment, reference). Deterministic: same ticks, same bits."""

    def step(self, tick: Tick) -> Decision:
        """Take a tick in and decide. Ticks come once each, in event-time order."""
        ...

    def advance(self, tick: Tick) -> None:
        """Take a revised tick in without deciding."""
        ...

    def decide(self) -> Decision:
        """Decide once at the newest tick, after `advance`."""
        ...

    def silence(self, now: datetime, fed_at: datetime) -> Decision:
        """Judge the absence of images since `fed_at`, both in processing time; asked at every run."""
        ...

    def snapshot(self) -> bytes:
        """All that it knows."""
        ...

    def restore(self, content: bytes) -> None:
        """Go on from a snapshot."""
        ...
