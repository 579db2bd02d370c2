"""What the monitor needs of a detector."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from pipeline.shift.silence import Silence
from pipeline.shift.tick import Tick
from pipeline.shift.verdict import StreamVerdict


class Evaluator(Protocol):
    """The detector of one (deployment, reference). Deterministic: same ticks, same bits."""

    @property
    def provisional(self) -> bool:
        """What it raises is shown and never paged: too little is known of normal traffic."""

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
