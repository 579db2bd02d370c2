"""What cameras send, minute by minute: the same records for the same seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from pipeline.ingest.source import NewRecord

MINUTE = timedelta(minutes=1)
NORMAL = "normal"


@dataclass(frozen=True)
class Phase:
    """So many minutes during which a share of some segments' images comes from another pool."""

    minutes: int
    pool: str = NORMAL
    share: float = 1.0
    segments: tuple[str, ...] | None = None  # None: everybody's

    def of(self, segment: str) -> bool:
        """Whether something is wrong with this segment's images."""
        return self.pool != NORMAL and (self.segments is None or segment in self.segments)


@dataclass(frozen=True)
class Scene:
    """Phases one after another. Segments take turns; every picture is drawn anew, with replacement."""

    begin: datetime
    phases: tuple[Phase, ...]
    segments: tuple[str, ...]
    per_minute: int  # images of all segments together
    seed: int

    @property
    def minutes(self) -> int:
        """How long it is."""
        return sum(phase.minutes for phase in self.phases)

    @property
    def wrong(self) -> Phase:
        """The one phase in which something is wrong."""
        (phase,) = (phase for phase in self.phases if phase.pool != NORMAL)
        return phase

    @property
    def onset(self) -> datetime:
        """When it begins."""
        return self.begin + sum(phase.minutes for phase in self.phases[: self.phases.index(self.wrong)]) * MINUTE

    @property
    def relief(self) -> datetime:
        """When it ends."""
        return self.onset + self.wrong.minutes * MINUTE

    def records(self, minute: int, pools: Mapping[str, Sequence[bytes]]) -> list[NewRecord]:
        """The images of one minute, evenly spaced."""
        rng = np.random.default_rng((self.seed, minute))
        phase, start, made = self._phase(minute), self.begin + minute * MINUTE, []
        for i in range(self.per_minute):
            segment = self.segments[i % len(self.segments)]
            name = phase.pool if phase.of(segment) and rng.random() < phase.share else NORMAL
            picture = int(rng.integers(len(pools[name])))
            headers = {
                "ce_time": (start + i * MINUTE / self.per_minute).isoformat(),
                "segment": segment,
                "id": f"{name}/{picture}",
            }
            made.append(
                NewRecord(pools[name][picture], headers=tuple((key, text.encode()) for key, text in headers.items()))
            )
        return made

    def _phase(self, minute: int) -> Phase:
        for phase in self.phases:
            if minute < phase.minutes:
                return phase
            minute -= phase.minutes
        raise IndexError(f"the scene has {self.minutes} minutes")
