"""What the poll thread makes of polls; the state machine under faults/ covers the rest."""

from collections.abc import Callable, Mapping

import pytest

from pipeline.errors import EnvironmentFault
from pipeline.ingest.source import Fetched, Poll
from pipeline.records import Bounds, Partition, Range, Record
from pipeline.stages.flow import Flow, InFlight, LogEnds, Positioned, PositionRequest, Stored
from pipeline.stages.intake import Intake

OURS = Partition("t", "A", 0)


class ScriptedSubscription:
    """Returns the polls it is given, and notes the rest."""

    standby = None
    trouble = None

    def __init__(self) -> None:
        self.polls: list[Poll] = []
        self.paused = False
        self.sought: list[tuple[Partition, int]] = []
        self.acknowledged: list[dict[int, int]] = []
        self.waited: Callable[[], None] = lambda: None

    def poll(self, timeout_s: float) -> Poll:
        self.waited()
        return self.polls.pop(0) if self.polls else Poll()

    def seek(self, partition: Partition, offset: int) -> None:
        self.sought.append((partition, offset))

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def acknowledge(self, ends: Mapping[int, int]) -> None:
        self.acknowledged.append(dict(ends))

    def close(self) -> None:
        raise AssertionError("not the intake's to close")


class Room:
    """An intake whose partition 0 is read from offset 10 on."""

    def __init__(self) -> None:
        self.subscription = ScriptedSubscription()
        self.flow = Flow(InFlight(max_records=100, max_bytes=1 << 20, bytes_per_record=1))
        self.ranges: list[Range] = []
        self.now = 0.0
        self.intake = Intake(
            self.subscription,
            flow=self.flow,
            forward=self.ranges.append,
            max_range=3,
            stall_s=10.0,
            clock=lambda: self.now,
        )
        self.poll(Poll(assigned=frozenset({0})))
        self.position(10)
        self.poll(Poll())

    def poll(self, seen: Poll) -> None:
        self.subscription.polls.append(seen)
        self.intake.step(0)

    def position(self, offset: int, partition: Partition = OURS) -> PositionRequest:
        """Answer the question that waits."""
        request = self.flow.requests.get_nowait()
        self.flow.answers.put(Positioned(partition, request.epoch, offset, 0))
        return request

    def fetch(self, *offsets: int, end: int) -> None:
        records = tuple(Record(OURS, offset, None, None, b"v") for offset in offsets)
        self.poll(Poll(fetched={0: Fetched("A", records, end)}))

    @property
    def spans(self) -> list[tuple[int, int, int]]:
        return [(portion.start, portion.end, len(portion.records)) for portion in self.ranges]


def test_holes_belong_to_the_range_of_the_records_before_them() -> None:
    room = Room()
    room.fetch(11, 12, 14, 15, 16, end=20)
    assert room.spans == [(10, 15, 3), (15, 20, 2)]
    assert [portion.holes for portion in room.ranges] == [2, 3]


def test_holes_alone_make_a_range_without_records() -> None:
    room = Room()
    room.fetch(end=13)
    room.fetch(end=13)  # nothing new
    room.fetch(13, end=14)
    assert room.spans == [(10, 13, 0), (13, 14, 1)]


def test_what_is_stored_is_acknowledged_also_where_somebody_else_has_stored_it() -> None:
    room = Room()
    room.fetch(10, 11, end=12)
    room.flow.answers.put(Stored(room.ranges[0]))
    room.poll(Poll(revoked=frozenset({0}), assigned=frozenset({0})))
    room.flow.answers.put(Stored(room.ranges[0]))  # of an older epoch: the position says it anyway
    room.position(12)
    room.poll(Poll())
    assert room.subscription.acknowledged == [{0: 10}, {0: 12}, {0: 12}]


def test_damage_is_asked_about_when_all_that_came_before_it_is_stored() -> None:
    room = Room()
    room.fetch(10, 11, end=12)
    room.poll(Poll(unreadable=frozenset({0})))
    room.poll(Poll())
    assert room.flow.requests.empty()
    assert room.subscription.paused
    room.flow.in_flight.remove(room.ranges[0])
    room.poll(Poll())
    assert room.subscription.paused
    assert room.position(25).damaged
    room.poll(Poll())
    assert room.subscription.sought[-1] == (OURS, 25)
    assert not room.subscription.paused


def test_a_topic_made_anew_unnoticed_by_the_client_is_asked_about() -> None:
    room = Room()
    anew = Partition("t", "B", 0)
    room.flow.answers.put(LogEnds((Bounds(OURS, 0, 10),)))
    room.poll(Poll())
    assert room.flow.requests.empty()
    room.flow.answers.put(LogEnds((Bounds(anew, 0, 10),)))
    room.poll(Poll())
    assert not room.position(0, anew).damaged
    room.poll(Poll())
    assert room.subscription.sought[-1] == (anew, 0)


def test_records_that_wait_and_never_come_end_the_worker() -> None:
    room = Room()

    def second() -> None:
        room.now += 1.0

    def idle(seconds: int) -> None:
        for turn in range(seconds):
            if turn % 2 == 0:
                room.flow.answers.put(LogEnds((Bounds(OURS, 0, 900),)))
            room.intake.step(0)

    room.subscription.waited = second
    idle(10)
    room.fetch(10, end=11)
    idle(10)
    with pytest.raises(EnvironmentFault, match="partition 0 has records waiting at offset 11"):
        idle(2)
