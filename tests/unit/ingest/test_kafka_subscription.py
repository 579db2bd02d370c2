"""The manners of a group member, over a client that notes every call and can be told what to raise."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CommitFailedError,
    CorruptRecordError,
    FencedInstanceIdError,
    KafkaConnectionError,
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.kafka_listener import Listener
from pipeline.ingest.kafka_options import read_options
from pipeline.ingest.kafka_subscription import KafkaSubscription, require_fast_checksums
from pipeline.records import Partition

Action = Callable[["FakeConsumer"], Any]


def place(number: int) -> TopicPartition:
    return TopicPartition("t", number)


def message(offset: int) -> Any:
    return SimpleNamespace(offset=offset, timestamp=1_000, key=None, value=b"v", headers=[("id", b"7")])


class FakeConsumer:
    """What kafka-python does on the calling thread; everything that would wait is missing."""

    def __init__(self, **config: Any) -> None:
        self.config = config
        self.listener: Listener | None = None
        self.held: set[TopicPartition] = set()
        self.paused: set[TopicPartition] = set()
        self.positions: dict[TopicPartition, int] = {}
        self.script: list[Action] = []
        self.commits: list[tuple[dict[TopicPartition, OffsetAndMetadata], Any]] = []
        self.closed = False
        self._coordinator = SimpleNamespace(rejoining=False, need_rejoin=lambda: False)

    def subscribe(self, topics: list[str], listener: Listener) -> None:
        self.listener = listener

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0, 1, 2}

    def poll(self, timeout_ms: int) -> Any:
        return self.script.pop(0)(self) if self.script else {}

    def assignment(self) -> set[TopicPartition]:
        return set(self.held)

    def seek(self, at: TopicPartition, offset: int) -> None:
        assert at in self.held
        self.positions[at] = offset

    def position(self, at: TopicPartition, timeout_ms: int) -> int:
        return self.positions[at]

    def pause(self, *places: TopicPartition) -> None:
        self.paused |= set(places)

    def resume(self, *places: TopicPartition) -> None:
        self.paused -= set(places)

    def commit_async(self, offsets: dict[TopicPartition, OffsetAndMetadata], callback: Any) -> None:
        self.commits.append((offsets, callback))

    def close(self, autocommit: bool, timeout_ms: int) -> None:
        self.closed = True


@dataclass
class World:
    """A member with its clients, its clock, and the topic's word on its id."""

    topic_id: str = "A"
    now: float = 100.0
    clients: list[FakeConsumer] = field(default_factory=list)
    unreachable: Exception | None = None

    def __post_init__(self) -> None:
        topic = SimpleNamespace(topic_id=lambda: self.topic_id, close=lambda: None)
        self.member = KafkaSubscription(
            read_options("kafka://a:1/t", {"group_instance_id": "gpu-7"}),
            group="g",
            max_records=10,
            max_bytes=1 << 20,
            topic=topic,  # type: ignore[arg-type]
            make_consumer=self.make,
            clock=lambda: self.now,
        )

    def make(self, **config: Any) -> FakeConsumer:
        if self.unreachable is not None:
            raise self.unreachable
        self.clients.append(FakeConsumer(**config))
        return self.clients[-1]

    @property
    def client(self) -> FakeConsumer:
        return self.clients[-1]

    def next_poll(self, action: Action) -> Any:
        if not self.clients:
            self.member.poll(0)
        self.client.script.append(action)
        return self.member.poll(0)

    def read(self, numbers: Collection[int] = (0, 1), offset: int = 5) -> None:
        """Assigned, positioned and open."""
        self.next_poll(assigned(numbers))
        for number in numbers:
            self.member.seek(Partition("t", self.topic_id, number), offset)
        self.member.resume()


def assigned(numbers: Collection[int]) -> Action:
    def act(client: FakeConsumer) -> Any:
        assert client.listener is not None
        client.listener.on_partitions_revoked(client.held)
        client.held = {place(number) for number in numbers}
        client.listener.on_partitions_assigned(client.held)
        return {}

    return act


def raising(error: Exception) -> Action:
    def act(client: FakeConsumer) -> Any:
        raise error

    return act


def records(number: int, *offsets: int) -> Action:
    def act(client: FakeConsumer) -> Any:
        client.positions[place(number)] = offsets[-1] + 1
        return {place(number): [message(offset) for offset in offsets]}

    return act


def test_an_assignment_seeks_provisionally_and_pauses_everything() -> None:
    world = World()
    seen = world.next_poll(assigned([0, 1]))
    assert (seen.revoked, seen.assigned) == (frozenset(), {0, 1})
    assert world.client.positions == {place(0): 0, place(1): 0}
    assert world.client.paused == {place(0), place(1)}


def test_an_assignment_of_nothing_is_a_standby() -> None:
    world = World()
    assert world.member.standby is None
    seen = world.next_poll(assigned([]))
    assert (seen.revoked, seen.assigned) == (frozenset(), frozenset())
    assert world.member.standby == "other members of the group"
    world.next_poll(assigned([1]))
    assert world.member.standby is None


def test_a_rebalance_revokes_all_that_was_held() -> None:
    world = World()
    world.read([0, 1])
    seen = world.next_poll(assigned([1, 2]))
    assert (seen.revoked, seen.assigned) == ({0, 1}, {1, 2})
    assert world.client.paused == {place(1), place(2)}


def test_a_listener_that_is_told_of_a_loss_never_touches_the_client() -> None:
    world = World()
    world.read([0])
    assert world.client.listener is not None
    world.client.listener.on_partitions_lost({place(0)})
    assert world.next_poll(lambda client: {}).revoked == {0}


def test_a_change_seen_by_a_poll_that_raises_is_reported_all_the_same() -> None:
    world = World()
    world.read([0])

    def act(client: FakeConsumer) -> Any:
        assigned([1])(client)
        raise OffsetOutOfRangeError({place(0): 5})

    seen = world.next_poll(act)
    assert (seen.revoked, seen.assigned, seen.out_of_range) == ({0}, {1}, {0})


def test_all_partitions_are_paused_and_resumed_together() -> None:
    world = World()
    world.read([0, 1, 2])
    assert world.client.paused == set()
    world.member.pause()
    assert world.client.paused == {place(0), place(1), place(2)}


def test_records_carry_the_id_that_the_topic_had_before_the_client_was_made() -> None:
    world = World()
    world.read([0, 1])
    world.topic_id = "B"
    fetched = world.next_poll(records(0, 5, 6)).fetched[0]
    assert (fetched.topic_id, fetched.end, [record.offset for record in fetched.records]) == ("A", 7, [5, 6])
    assert fetched.records[0].partition == Partition("t", "A", 0)
    assert fetched.records[0].headers == (("id", b"7"),)


def test_holes_behind_records_and_without_any_are_passed() -> None:
    world = World()
    world.read([0, 1])

    def act(client: FakeConsumer) -> Any:
        found = records(0, 5, 6)(client)
        client.positions |= {place(0): 9, place(1): 8}
        return found

    fetched = world.next_poll(act).fetched
    assert {number: (len(part.records), part.end) for number, part in fetched.items()} == {0: (2, 9), 1: (0, 8)}
    assert world.next_poll(lambda client: {}).fetched == {}


def test_nothing_is_passed_while_all_is_paused_or_not_yet_sought() -> None:
    world = World()
    world.next_poll(assigned([0]))
    world.client.positions[place(0)] = 3
    assert world.next_poll(lambda client: {}).fetched == {}
    world.read([0])
    world.member.pause()
    world.client.positions[place(0)] = 9
    assert world.next_poll(lambda client: {}).fetched == {}


def test_another_incarnation_is_read_with_another_client() -> None:
    world = World()
    world.read([0, 1])
    world.topic_id = "B"
    world.member.seek(Partition("t", "B", 0), 0)
    assert world.member.poll(0).revoked == {0, 1}
    assert world.clients[0].closed
    world.read([0], offset=0)
    assert len(world.clients) == 2
    assert world.next_poll(records(0, 0)).fetched[0].topic_id == "B"


def test_damage_pauses_all_polls_on_and_ends_with_another_client() -> None:
    """Unpaused, the next poll of kafka-python would never return."""
    world = World()
    world.read([0, 1])
    assert world.next_poll(raising(CorruptRecordError("crc"))).unreadable == {0, 1}
    assert world.client.paused == {place(0), place(1)}
    assert not world.next_poll(lambda client: {}).unreadable
    world.member.seek(Partition("t", "A", 0), 15)
    world.member.resume()
    assert world.client.paused == {place(0), place(1)}
    assert world.member.poll(0).revoked == {0, 1}
    world.member.poll(0)
    assert (len(world.clients), world.clients[0].closed) == (2, True)


def test_a_truncated_log_is_the_writers_to_judge() -> None:
    world = World()
    world.read([0, 1])
    assert world.next_poll(raising(LogTruncationError({place(1): None}))).out_of_range == {1}


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), KafkaError("strange"), RuntimeError("loop crashed")])
def test_after_any_other_exception_everything_is_read_again_by_a_new_client(error: Exception) -> None:
    world = World()
    world.read([0, 1])
    assert world.next_poll(raising(error)).revoked == {0, 1}
    assert world.clients[0].closed
    world.member.poll(0)
    assert len(world.clients) == 1  # not at once
    assert str(error) in str(world.member.trouble)
    world.now += 1.01
    world.member.poll(0)
    assert len(world.clients) == 2
    assert world.member.trouble is None


def test_brokers_that_do_not_answer_are_tried_again_for_ever() -> None:
    world = World(unreachable=KafkaConnectionError("refused"))
    for _ in range(3600):
        assert not world.member.poll(0).assigned
        world.now += 1.0
    world.unreachable = None
    assert world.next_poll(assigned([0])).assigned == {0}


def test_a_topic_that_is_gone_is_waited_for_and_an_unknown_one_is_not() -> None:
    world = World()

    def gone() -> str:
        raise EnvironmentFault("the topic has been deleted")

    def unknown() -> str:
        raise UsageError("there is no such topic")

    world.member._topic.topic_id = gone  # type: ignore[method-assign]
    assert not world.member.poll(0).assigned
    assert world.member.trouble == "the topic has been deleted"
    world.now += 2
    world.member._topic.topic_id = unknown  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="no such topic"):
        world.member.poll(0)


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (UnsupportedCodecError("Libraries for lz4 compression codec not found"), r"install kafka-python\[lz4"),
        (TopicAuthorizationFailedError({"t"}), "grant this user Read"),
        (FencedInstanceIdError("fenced"), "another process has joined as group_instance_id 'gpu-7'"),
    ],
)
def test_what_a_person_must_mend_ends_the_worker(error: Exception, cure: str) -> None:
    world = World()
    world.read([0])
    with pytest.raises(UsageError, match=cure):
        world.next_poll(raising(error))


def test_commits_are_advisory_and_one_at_a_time() -> None:
    world = World()
    world.read([0, 1])
    for end in (6, 7, 8):
        world.member.acknowledge({0: end, 9: 1})  # 9 has been revoked meanwhile
    ((offsets, answer),) = world.client.commits
    assert offsets == {place(0): OffsetAndMetadata(6, "", -1)}
    answer(offsets, CommitFailedError("rebalancing"))
    world.member.poll(0)
    assert [offsets for offsets, _ in world.client.commits[1:]] == [{place(0): OffsetAndMetadata(8, "", -1)}]
    world.member.acknowledge({0: 9})
    world.now += 31  # an answer that never came
    world.member.poll(0)
    assert len(world.client.commits) == 3


def test_checksums_in_python_are_refused() -> None:
    with pytest.raises(UsageError, match=r"install kafka-python\[crc32c\]"):
        require_fast_checksums(None)
