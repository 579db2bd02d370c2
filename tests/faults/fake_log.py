"""A partitioned log in memory with Kafka's manners: holes, retention, incarnations, retained positions.

The subscription fetches by topic *name* with a remembered topic id, as kafka-python does: a member
that missed a delete and create goes on at its old offset in the new topic and does not notice.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from pipeline.ingest.source import Fetched, Poll
from pipeline.records import Bounds, LogRetention, Partition, Record

TOPIC = "images"


@dataclass
class FakeLog:
    """What a broker holds; `history` remembers every record that ever was, for the oracle."""

    partitions: int
    incarnation: int = 0
    records: dict[int, list[Record | None]] = field(default_factory=dict)
    beginnings: dict[int, int] = field(default_factory=dict)
    history: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    damaged: set[tuple[int, int]] = field(default_factory=set)  # (partition, offset) that cannot be read

    def __post_init__(self) -> None:
        self.recreate()

    @property
    def topic_id(self) -> str:
        return f"id-{self.incarnation}"

    def recreate(self) -> None:
        """Delete the topic and make it anew under its name."""
        self.incarnation += 1
        self.records = {number: [] for number in range(self.partitions)}
        self.beginnings = dict.fromkeys(range(self.partitions), 0)
        self.damaged = set()

    def produce(self, number: int, value: bytes) -> None:
        offset = len(self.records[number])
        partition = Partition(TOPIC, self.topic_id, number)
        self.records[number].append(Record(partition, offset, None, None, value))
        self.history[self.topic_id, number, offset] = value

    def make_hole(self, number: int) -> None:
        """An offset that no consumer ever sees: a transaction marker."""
        self.records[number].append(None)

    def damage(self, number: int, offset: int) -> None:
        """Bytes on the disk have flipped."""
        if offset < len(self.records[number]):
            self.damaged.add((number, offset))

    def first_readable(self, number: int, offset: int) -> int:
        """A fetch skips holes, but not damage."""
        while offset < self.end(number) and self._meets_damage(number, offset):
            offset += 1
        return offset

    def _meets_damage(self, number: int, offset: int) -> bool:
        for at in range(offset, self.end(number)):
            if (number, at) in self.damaged:
                return True
            if self.records[number][at] is not None:
                return False
        return False

    def expire(self, number: int, count: int) -> None:
        """LogRetention deletes the oldest offsets."""
        self.beginnings[number] = min(self.beginnings[number] + count, len(self.records[number]))

    def end(self, number: int) -> int:
        return len(self.records[number])


class FakeTopic:
    """The broker's own word on the topic."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log

    @property
    def name(self) -> str:
        return TOPIC

    def topic_id(self) -> str:
        return self._log.topic_id

    def bounds(self, partitions: Collection[int] | None = None) -> list[Bounds]:
        chosen = range(self._log.partitions) if partitions is None else sorted(partitions)
        return [
            Bounds(Partition(TOPIC, self._log.topic_id, n), self._log.beginnings[n], self._log.end(n)) for n in chosen
        ]

    def offset_at(self, partition: int, timestamp_us: int) -> int:
        raise AssertionError("not asked for in these tests")

    def first_readable(self, partition: int, offset: int) -> int:
        return self._log.first_readable(partition, offset)

    def retention(self) -> LogRetention:
        return LogRetention(timedelta(days=1))

    def close(self) -> None:
        pass


class FakeSubscription:
    """One group member. `assign` is the coordinator's decision, seen at the member's next poll."""

    def __init__(self, log: FakeLog, *, max_records: int) -> None:
        self._log = log
        self._max_records = max_records
        self._decided: frozenset[int] = frozenset()
        self._seen: frozenset[int] = frozenset()
        self._positions: dict[int, int] = {}  # kept over rebalances, as kafka-python does
        self._known_id = log.topic_id
        self._paused = False
        self._turn = 0

    @property
    def trouble(self) -> str | None:
        return None

    @property
    def standby(self) -> str | None:
        return None

    def assign(self, partitions: Collection[int]) -> None:
        self._decided = frozenset(partitions)
        self._rebalanced = True

    _rebalanced = False

    def refresh_metadata(self) -> None:
        self._known_id = self._log.topic_id

    def poll(self, timeout_s: float) -> Poll:
        if self._rebalanced:
            self._rebalanced = False
            revoked, self._seen = self._seen, self._decided
            for number in self._seen:
                self._positions.setdefault(number, 0)
            return Poll(revoked=revoked, assigned=self._seen)
        if self._paused or not self._seen:
            return Poll()
        outside = {n for n in self._seen if not self._log.beginnings[n] <= self._positions[n] <= self._log.end(n)}
        if outside:
            return Poll(out_of_range=frozenset(outside))
        self._turn += 1
        order = sorted(self._seen)
        for number in order[self._turn % len(order) :] + order[: self._turn % len(order)]:
            found: list[Record] = []
            begin = position = self._positions[number]
            while position < self._log.end(number) and len(found) < self._max_records:
                if (number, position) in self._log.damaged:
                    break
                if (record := self._log.records[number][position]) is not None:
                    found.append(record)
                position += 1
            if position > begin:
                self._positions[number] = position
                partition = Partition(TOPIC, self._known_id, number)
                labelled = tuple(replace(record, partition=partition) for record in found)
                return Poll(fetched={number: Fetched(self._known_id, labelled, position)})
            if position < self._log.end(number):
                return Poll(unreadable=self._seen)  # the client does not say where
        return Poll()

    def seek(self, partition: Partition, offset: int) -> None:
        self._positions[partition.number] = offset

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def acknowledge(self, ends: Mapping[int, int]) -> None:
        pass

    def close(self) -> None:
        pass
