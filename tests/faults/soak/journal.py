"""What the log acknowledged to the producers: the oracle's one truth."""

import threading
from dataclasses import dataclass, field
from typing import NamedTuple


class Place(NamedTuple):
    """Coordinates of one record."""

    topic_id: str
    partition: int
    offset: int


@dataclass
class Journal:
    """Written by the producers' threads, read by all."""

    acknowledged: dict[Place, int] = field(default_factory=dict)  # place -> number of the record
    aborted: dict[Place, int] = field(default_factory=dict)  # in the log, but no consumer may see them
    aborted_transactions: int = 0
    ends: dict[tuple[str, int], int] = field(default_factory=dict)  # (topic id, partition) -> behind the last one
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, place: Place, number: int) -> None:
        """The log promised to keep this record."""
        with self._lock:
            self.acknowledged[place] = number
            key = place.topic_id, place.partition
            self.ends[key] = max(self.ends.get(key, 0), place.offset + 1)

    def abort(self, places: dict[Place, int]) -> None:
        """A transaction that never was."""
        with self._lock:
            self.aborted |= places
            self.aborted_transactions += 1

    def last(self) -> dict[tuple[str, int], int]:
        """The ends of the incarnation that was written to last; nobody waits for an older one."""
        with self._lock:
            newest = next(reversed(self.ends), ("", 0))[0]
            return {key: end for key, end in self.ends.items() if key[0] == newest}
