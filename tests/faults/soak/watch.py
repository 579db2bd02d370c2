"""Looks at the cursors ten times a second: where they stand, who moved them, how long one stood still."""

import threading
import time
from dataclasses import dataclass

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from tests.faults.soak.journal import Journal

INTERVAL_S = 0.1
_QUERY = text("SELECT topic_id, partition, next_offset, scored + dead, owner FROM stream")

Key = tuple[str, int]  # topic id, partition


@dataclass(frozen=True)
class Cursor:
    """A row of `stream`."""

    next_offset: int
    stored: int
    owner: str


class Watch(threading.Thread):
    """A partition pauses while records wait in it and its cursor does not move."""

    def __init__(self, engine: Engine, journal: Journal) -> None:
        super().__init__(name="watch", daemon=True)
        self._engine = engine
        self._journal = journal
        self._end = threading.Event()
        self._moved_at: dict[Key, float] = {}
        self.cursors: dict[Key, Cursor] = {}
        self.longest_pause: dict[Key, float] = {}
        self._orphaned_at: dict[Key, float] = {}
        self.recoveries_s: list[float] = []  # from a kill until somebody else moved a cursor of the dead

    def run(self) -> None:
        while not self._end.wait(INTERVAL_S):
            self.look()

    def look(self) -> None:
        """Once; a database that does not answer is a pause like any other."""
        try:
            with self._engine.connect() as conn:
                rows = conn.execute(_QUERY).all()
        except DBAPIError:
            return
        now = time.monotonic()
        ends = self._journal.last()
        for topic_id, partition, next_offset, stored, owner in rows:
            key = str(topic_id), int(partition)
            former = self.cursors.get(key)
            if former is not None and owner != former.owner and key in self._orphaned_at:
                self.recoveries_s.append(now - self._orphaned_at.pop(key))
            self.cursors[key] = Cursor(next_offset, stored, owner)
            if former is not None and next_offset == former.next_offset < ends.get(key, 0):
                pause = now - self._moved_at.setdefault(key, now)
            else:
                pause = now - self._moved_at.get(key, now)
                self._moved_at[key] = now
            self.longest_pause[key] = max(pause, self.longest_pause.get(key, 0.0))

    def stop(self) -> None:
        """No more looks."""
        self._end.set()
        self.join()

    @property
    def stored(self) -> int:
        """Rows and dead letters so far, as the cursors count them."""
        return sum(cursor.stored for cursor in self.cursors.values())

    def lag(self) -> int:
        """Acknowledged offsets, of the topic as it is now, that no cursor has passed."""
        return sum(
            max(0, end - (self.cursors[key].next_offset if key in self.cursors else 0))
            for key, end in self._journal.last().items()
        )

    def killed(self, pid: int) -> None:
        """This process died just now; its cursors wait for another."""
        now = time.monotonic()
        orphans = [key for key, cursor in self.cursors.items() if cursor.owner.endswith(f":{pid}")]
        self._orphaned_at |= dict.fromkeys(orphans, now)

    def owned_by(self, pid: int) -> int:
        """How many cursors this process moved last."""
        return sum(cursor.owner.endswith(f":{pid}") for cursor in self.cursors.values())
