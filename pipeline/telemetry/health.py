"""Is it alive, is it ready? Pure answers from what the threads left behind; a reason for every no.

Alive means that the process's own threads make progress: no dependency counts, for a restart would not
mend it. Ready means that records move, or would move if there were any.
"""

import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.records import Partition
from pipeline.stages.flow import Progress


@dataclass(frozen=True, slots=True)
class Silence:
    """A thread that has not come back for too long."""

    thread: str
    silent_s: float
    limit_s: float

    def __str__(self) -> str:
        """One line for a log and for a health check."""
        return f"thread {self.thread} has shown no life for {self.silent_s:.0f} s (limit {self.limit_s:.0f} s)"


class Pulse:
    """When each thread last came round. Threads beat from themselves; anybody may ask."""

    def __init__(self, limits_s: Mapping[str, float], *, clock: Callable[[], float]) -> None:
        self._limits_s = limits_s
        self._clock = clock  # monotonic seconds
        self._last: dict[str, float] = {}

    def beat(self, thread: str) -> None:
        """The named thread is alive; before its first beat nothing is expected of it."""
        self._last[thread] = self._clock()

    def silence_s(self) -> dict[str, float]:
        """Seconds since the last beat of every thread that has begun."""
        now = self._clock()
        return {thread: now - last for thread, last in tuple(self._last.items())}

    def silent(self) -> list[Silence]:
        """The threads that have passed their limit."""
        return [
            Silence(thread, silent_s, self._limits_s[thread])
            for thread, silent_s in self.silence_s().items()
            if silent_s > self._limits_s[thread]
        ]


def stacks() -> str:
    """Where every thread of this process stands now: what to look at when one does not come back."""
    frames = sys._current_frames()
    return "\n".join(
        f"thread {thread.name}:\n{''.join(traceback.format_stack(frames[thread.ident]))}"
        for thread in threading.enumerate()
        if thread.ident in frames
    )


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One look at a running worker; may be taken from any thread."""

    lag: Mapping[Partition, int]  # of the partitions that are read now: log's end minus cursor
    unpositioned: int  # assigned partitions whose cursor is not read yet
    standby: str | None  # who has the partitions while this worker waits to take over
    trouble: str | None  # why the database or the log is being tried again
    paused: bool
    in_flight_records: int
    in_flight_bytes: int
    batch_cap: int  # images in one forward pass; lowered when memory ran out
    progress: Progress
    model: str  # what scores: its id
    reference: str
    refused: str | None = None  # why the model that the registry names does not


def unready(state: WorkerState) -> list[str]:
    """Why a worker, whose model is warm, cannot work; nothing: it can."""
    reasons = [state.trouble] if state.trouble is not None else []
    if not state.lag and state.unpositioned:
        reasons.append(f"{state.unpositioned} partitions wait for their cursor from the database")
    elif not state.lag and state.standby is None:
        reasons.append("no partition is assigned yet")
    return reasons


def notes(state: WorkerState) -> list[str]:
    """What a person should know of a worker that can work."""
    return [] if state.refused is None else [f"the promoted model is refused, {state.model} goes on: {state.refused}"]
