"""The source protocol: a partitioned log, as the worker sees it. The spool and Kafka speak it.

Two roles, because two threads use it: exactly one thread polls a Subscription; the writer thread
asks a Topic about identities and bounds. Producers append.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pipeline.records import Bounds, LogRetention, Partition, Record


@dataclass(frozen=True, slots=True)
class Fetched:
    """Consecutive records of one partition, in offset order; none where only holes were passed."""

    topic_id: str  # the incarnation that they were fetched from, as the subscription believes
    records: tuple[Record, ...]
    end: int  # where the next fetch begins: behind the last record and the holes that follow it


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll saw. Revocations happened before assignments, assignments before records."""

    revoked: frozenset[int] = frozenset()
    assigned: frozenset[int] = frozenset()
    fetched: Mapping[int, Fetched] | None = None
    out_of_range: frozenset[int] = frozenset()  # the position is no longer in the log
    unreadable: frozenset[int] = frozenset()  # at or behind the position of one of these, bytes are damaged


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to be appended. Without a partition: by the key's hash, or in turn where there is no key."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: datetime | None = None  # now, unless given
    partition: int | None = None


class Subscription(Protocol):
    """One member of the group that shares a topic's partitions. Used by one thread only."""

    @property
    def trouble(self) -> str | None:
        """Why this member cannot read at all, as no broker that answers; else None. Any thread may ask."""

    @property
    def standby(self) -> str | None:
        """Who has the partitions while this member, having joined, has none; else None. Any thread may ask."""

    def poll(self, timeout_s: float) -> Poll:
        """Wait up to `timeout_s` for records; never longer. While paused, return none."""

    def seek(self, partition: Partition, offset: int) -> None:
        """Set where the next poll reads an assigned partition, of this incarnation of the topic."""

    def pause(self) -> None:
        """Stop fetching from all assigned partitions together; polling goes on."""

    def resume(self) -> None:
        """Fetch again from all assigned partitions together."""

    def acknowledge(self, ends: Mapping[int, int]) -> None:
        """Tell the log, advisory and without waiting, what is stored: {partition: next offset}."""

    def close(self) -> None:
        """Leave the group."""


class Topic(Protocol):
    """What the log says about itself. Safe to use from a thread of its own."""

    @property
    def name(self) -> str:
        """The topic's name."""

    def topic_id(self) -> str:
        """The present incarnation's id, asked now and not remembered."""

    def bounds(self, partitions: Collection[int] | None = None) -> list[Bounds]:
        """First and next offset of the given partitions (all by default), ascending."""

    def offset_at(self, partition: int, timestamp_us: int) -> int:
        """The first offset whose record is not older than the time, else the end."""

    def first_readable(self, partition: int, offset: int) -> int:
        """The first offset, not before the given one, from which records can be read undamaged."""

    def retention(self) -> LogRetention:
        """How much the log keeps."""

    def close(self) -> None:
        """Let go of connections."""


class Originals(Topic, Protocol):
    """A log that can be asked for single records, once they have been read."""

    def records_at(self, partition: int, offsets: Collection[int]) -> Iterator[Record]:
        """The records at these offsets, ascending; those that the log holds no longer are left out."""


class Appender(Protocol):
    """Where `produce` sends records to."""

    def append(self, records: Sequence[NewRecord]) -> Sequence[tuple[int, int] | None]:
        """Append durably; (partition, offset) of each, None where it was refused."""

    def close(self) -> None:
        """Let go of the log."""
