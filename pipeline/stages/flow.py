"""What the worker's threads share: the fence, the count of what is in flight, progress, and their messages."""

import queue
import threading
from dataclasses import dataclass, field

from pipeline.records import Bounds, Partition, Range


class Fence:
    """Local epochs of the assigned partitions. Only the poll thread raises them; all may ask.

    A range of an older epoch was fetched before its partition was revoked or positioned anew: it
    may be dropped anywhere. This saves work; the compare-and-set in the database is what is safe.
    """

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}

    def raise_epoch(self, partition: int) -> int:
        """Make everything fetched so far from this partition stale; return the new epoch."""
        self._epochs[partition] = self._epochs.get(partition, 0) + 1
        return self._epochs[partition]

    def is_current(self, partition: int, epoch: int) -> bool:
        """Whether nothing has happened to the partition since that epoch began."""
        return self._epochs.get(partition) == epoch


class InFlight:
    """Records and bytes between the poll and the commit: what the worker's memory is bounded by."""

    def __init__(self, *, max_records: int, max_bytes: int, bytes_per_record: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._bytes_per_record = bytes_per_record  # a prepared image, and what Python needs around it
        self._lock = threading.Lock()
        self.records = 0
        self.bytes = 0

    def add(self, portion: Range) -> None:
        """A range entered."""
        self._count(portion, +1)

    def remove(self, portion: Range) -> None:
        """A range was stored or dropped."""
        self._count(portion, -1)

    @property
    def is_full(self) -> bool:
        """Time to pause."""
        return self.records >= self._max_records or self.bytes >= self._max_bytes

    @property
    def has_room(self) -> bool:
        """Time to resume; half of `is_full`, so that pausing does not flutter."""
        return self.records <= self._max_records // 2 and self.bytes <= self._max_bytes // 2

    def _count(self, portion: Range, sign: int) -> None:
        size = portion.value_bytes + self._bytes_per_record * len(portion.records)
        with self._lock:
            self.records += sign * len(portion.records)
            self.bytes += sign * size


def place(portion: Range) -> dict[str, object]:
    """Where a range lies, as fields of a structured log line."""
    partition = portion.partition
    return {"topic": partition.topic, "partition": partition.number, "start": portion.start, "end": portion.end}


@dataclass(frozen=True, slots=True)
class PositionRequest:
    """The poll thread asks the writer thread, which alone may touch the database."""

    partition: int
    epoch: int
    damaged: bool = False  # something at the cursor could not be read: account for it and go on behind it


@dataclass(frozen=True, slots=True)
class Positioned:
    """Where to read on, in which incarnation of the topic."""

    partition: Partition
    epoch: int
    next_offset: int
    isolated_until: int  # records before this offset are scored in a child process


@dataclass(frozen=True, slots=True)
class Stored:
    """A range is in the database."""

    portion: Range


@dataclass(frozen=True, slots=True)
class Rejected:
    """A range was not stored: somebody else moved the cursor, or the topic is another one now."""

    portion: Range


@dataclass(frozen=True, slots=True)
class LogEnds:
    """The log has just answered: this is how far it reaches, and in which incarnation."""

    bounds: tuple[Bounds, ...]


Answer = Positioned | Stored | Rejected | LogEnds


@dataclass(slots=True)
class Progress:
    """What the writer has done since it began."""

    scored: int = 0
    dead: int = 0
    flagged: int = 0
    fenced: int = 0
    expired: int = 0  # gone from the log before they were read: deleted by retention, or damaged
    database_retries: int = 0
    source_retries: int = 0
    positions: dict[Partition, int] = field(default_factory=dict)  # what is stored, by whomever, as last seen


@dataclass(frozen=True, slots=True)
class Flow:
    """Everything that poll thread and writer thread have in common."""

    in_flight: InFlight
    fence: Fence = field(default_factory=Fence)
    progress: Progress = field(default_factory=Progress)
    requests: "queue.SimpleQueue[PositionRequest]" = field(default_factory=queue.SimpleQueue)
    answers: "queue.SimpleQueue[Answer]" = field(default_factory=queue.SimpleQueue)
