"""What may take long or never end, one at a time on each lane: a slow receiver holds nobody but its own lane."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.alerts.delivery import Undelivered
from pipeline.alerts.plain import plain

_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something to be said once, and who wants to know how it went."""

    lane: str
    say: Callable[[], None]  # in a thread of the lane
    hide: Callable[[str], str]  # takes the secrets out of what went wrong
    settle: Callable[[Undelivered | None], None]  # in the thread that hears


class Lanes:
    """Starts attempts and hears how they went. `nudge` is for any thread, all else for one."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[Attempt, Undelivered | None] | None] = queue.SimpleQueue()
        self._busy: set[str] = set()

    @property
    def busy(self) -> frozenset[str]:
        """Where an attempt is under way."""
        return frozenset(self._busy)

    def start(self, attempt: Attempt) -> None:
        """Begin it; its lane must not be busy."""
        self._busy.add(attempt.lane)
        # A daemon: what does not end must not keep the process.
        threading.Thread(target=self._say, args=(attempt,), name=attempt.lane, daemon=True).start()

    def hear(self, timeout_s: float | None) -> None:
        """Wait for one attempt to end, or for a nudge, and settle it."""
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return
        if event is not None:
            attempt, failure = event
            self._busy.discard(attempt.lane)
            attempt.settle(failure)

    def nudge(self) -> None:
        """Have `hear` return."""
        self._events.put(None)

    def _say(self, attempt: Attempt) -> None:
        failure = None
        try:
            attempt.say()
        except Undelivered as error:
            failure = Undelivered(_shown(str(error), attempt), final=error.final, wait=error.wait)
        except Exception as error:  # whatever a library raises: it was not said
            failure = Undelivered(_shown(f"{type(error).__name__}: {error}", attempt))
        self._events.put((attempt, failure))


def _shown(why: str, attempt: Attempt) -> str:
    """One line without secrets: cut only after they were taken out, or a part of one could be left."""
    return plain(attempt.hide(why), _LONGEST)
