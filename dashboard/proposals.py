"""A window that somebody may accept as normal: which one to begin with, and what was found out about it. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dashboard.windows import Window
from pipeline.shift.baseline import Baseline
from pipeline.shift.folding import floor
from pipeline.shift.replay import Change
from pipeline.storage.baselines import BaselineLine
from pipeline.storage.incident_pages import IncidentLine, TransitionLine

_OK = ("ok", "no_data", "learning")
_HOUR = 60  # minutes


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A baseline that nobody has accepted yet, and what the detector would have said with it."""

    deployment: str
    reference_id: int
    line: BaselineLine  # as it would be listed, but for who and why
    baseline: Baseline
    against: tuple[str, ...]  # alarms within its window, and that nothing would page, in words
    notes: tuple[str, ...]
    judged: Window  # stored minutes that were judged anew with it
    until: datetime  # before the end where time was up
    changes: tuple[Change, ...]  # of states, in that time

    @property
    def raises(self) -> int:
        """How often a stream would have left ok."""
        return sum(one.change.split(" → ")[0] in _OK for one in self.changes)


class Preparing(Protocol):
    """What takes a window to a baseline; who serves the pages may give it, or not.

    Each raises OodwatchError, in one line.
    """

    def propose(
        self, deployment: str, start: datetime, end: datetime, *, watch: Callable[[float, str], None]
    ) -> Proposal:
        """Learn from the window, and judge stored minutes with that; `watch` ends it when time is up."""

    def accept(self, proposal: Proposal, *, who: str, why: str, force: bool) -> str:
        """Let it count; what to tell the person."""

    def revoke(self, deployment: str, *, who: str) -> str:
        """Let the one that counts no longer do so; what to tell the person."""


def quiet_stretch(stored: Window, incidents: Sequence[IncidentLine], transitions: Sequence[TransitionLine]) -> Window:
    """The longest time of whole hours in which nothing was raised; all that is stored where there is none."""
    busy = [Window(one.onset, one.resolved_at or stored.end) for one in incidents]
    busy += _raised(transitions, stored.end)
    best, free = None, stored.start
    for start, end in [*sorted(busy), Window(stored.end, stored.end)]:
        found = _whole_hours(Window(free, min(start, stored.end)))
        if found.length > (best.length if best else timedelta(0)):
            best = found
        free = max(free, end)
    return best or stored


def times_raised(transitions: Sequence[TransitionLine], window: Window) -> int:
    """How often a stream left ok in that time, as the monitor said it then."""
    return sum(one.from_state in _OK and one.state not in _OK and one.tick < window.end for one in transitions)


def _raised(transitions: Sequence[TransitionLine], end: datetime) -> list[Window]:
    open_since: dict[str, datetime] = {}
    found = []
    for one in transitions:
        if one.state not in _OK:
            open_since.setdefault(one.stream, one.tick)
        elif (since := open_since.pop(one.stream, None)) is not None:
            found.append(Window(since, one.tick))
    return [*found, *(Window(since, end) for since in open_since.values())]


def _whole_hours(window: Window) -> Window:
    start = floor(window.start, _HOUR)
    start += timedelta(0) if start == window.start else timedelta(hours=1)
    return Window(start, max(start, floor(window.end, _HOUR)))
