"""Notices a partition that has records waiting and is never read, while nothing else is in the way.

kafka-python can forget a partition that was paused: the member stays healthy and its lag grows. Only a
new consumer helps, so the worker ends and is started again.
"""

from collections.abc import Callable, Mapping

from pipeline.errors import EnvironmentFault

_WAITING = 5  # records; fewer may be transaction markers of a log that is just being written
_FRESH_S = 6.0  # an older word on the log's end proves no longer that the broker answers


class Watchdog:
    """Counts, for each partition with records waiting, the time of polls that brought nothing at all."""

    def __init__(self, *, patience_s: float, clock: Callable[[], float]) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._heard_at = float("-inf")
        self._waiting: dict[int, tuple[int, float]] = {}  # partition: (position, idle seconds since it waits)

    def hear(self, positions: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """The log has said how far it reaches."""
        self._heard_at = self._clock()
        waiting = {}
        for number, position in positions.items():
            if ends.get(number, 0) > position + _WAITING:
                known = self._waiting.get(number)
                waiting[number] = known if known and known[0] == position else (position, 0.0)
        self._waiting = waiting

    def idle(self, positions: Mapping[int, int], seconds: float) -> None:
        """A poll that might have brought records brought none. Raises EnvironmentFault when patience ends."""
        if self._clock() - self._heard_at > _FRESH_S:
            self._waiting = {}
        for number, (position, idle_s) in list(self._waiting.items()):
            if positions.get(number) != position:
                del self._waiting[number]
                continue
            self._waiting[number] = (position, idle_s + seconds)
            if idle_s + seconds > self._patience_s:
                raise EnvironmentFault(
                    f"partition {number} has records waiting at offset {position}, but none came in"
                    f" {idle_s + seconds:.0f} s of idle polling: start the worker again (it goes on where the database"
                    " stands); on a slow network, lower fetch_max_bytes or raise worker.stall_seconds"
                )
