"""The poll thread: records → ranges. The only one that touches the subscription; never the database.

Every assignment begins with a question to the writer thread: where does the cursor stand? Until the
answer, everything is paused. On revocation in-flight work is simply made stale: nothing is flushed,
nothing waits, and what the writer already holds is decided by its compare-and-set.
"""

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.ingest.source import Fetched, Poll, Subscription
from pipeline.records import Partition, Range
from pipeline.stages.flow import Flow, LogEnds, Positioned, PositionRequest, Rejected, Stored
from pipeline.stages.watchdog import Watchdog

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Position:
    """Where one partition is read: the next range begins at `start`."""

    partition: Partition
    epoch: int
    start: int
    isolated_until: int


class Intake:
    """Turns polls into ranges of at most `max_range` records, and stops while the worker is full."""

    def __init__(
        self,
        subscription: Subscription,
        *,
        flow: Flow,
        forward: Callable[[Range], None],
        max_range: int,
        stall_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subscription = subscription
        self._fence = flow.fence
        self._in_flight = flow.in_flight
        self._requests = flow.requests
        self._answers = flow.answers
        self._forward = forward
        self._max_range = max_range
        self._positions: dict[int, _Position] = {}
        self._unpositioned: dict[int, int] = {}  # partition: epoch of the question
        self._unreadable: set[int] = set()  # asked about when all that was read before the damage is stored
        self._clock = clock
        self._watchdog = Watchdog(patience_s=stall_s, clock=clock)
        self._stopping = False
        self.paused = False

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """What is read now. Any thread may ask."""
        return tuple(position.partition for position in tuple(self._positions.values()))

    @property
    def unpositioned(self) -> int:
        """How many assigned partitions wait for their cursor. Any thread may ask."""
        return len(self._unpositioned)

    def step(self, timeout_s: float) -> None:
        """One turn: hear the writer, open or close the gate, poll."""
        self._hear_answers()
        self._ask_about_damage()
        self._set_gate()
        began = self._clock()
        seen = self._subscription.poll(timeout_s)
        self._follow_assignment(seen)
        for number, fetched in (seen.fetched or {}).items():
            self._take(number, fetched)
        if not seen.fetched and not self.paused:
            self._watchdog.idle(self._starts(), self._clock() - began)

    def stop_fetching(self) -> None:
        """From now on only keep the membership alive, while what is in flight is finished."""
        self._stopping = True

    def _hear_answers(self) -> None:
        ends: dict[int, int] = {}
        while True:
            try:
                answer = self._answers.get_nowait()
            except queue.Empty:
                break
            match answer:
                case Positioned():
                    if self._go_on_from(answer):
                        ends[answer.partition.number] = answer.next_offset  # whoever has stored it
                case Stored(portion):
                    if self._fence.is_current(portion.partition.number, portion.epoch):
                        ends[portion.partition.number] = portion.end
                case Rejected(portion):
                    if self._fence.is_current(portion.partition.number, portion.epoch):
                        self._ask_position(portion.partition.number)
                case LogEnds():
                    self._compare_with(answer)
        if ends:
            self._subscription.acknowledge(ends)

    def _go_on_from(self, answer: Positioned) -> bool:
        number = answer.partition.number
        if self._unpositioned.get(number) != answer.epoch:
            return False  # the partition was revoked or asked for again meanwhile
        del self._unpositioned[number]
        self._subscription.seek(answer.partition, answer.next_offset)
        self._positions[number] = _Position(answer.partition, answer.epoch, answer.next_offset, answer.isolated_until)
        topic = answer.partition.topic
        logger.info(
            "reading %s partition %d from offset %d on",
            topic,
            number,
            answer.next_offset,
            extra={"topic": topic, "partition": number, "start": answer.next_offset},
        )
        return True

    def _set_gate(self) -> None:
        # All partitions together: a Kafka partition that is paused alone may never come back.
        if self._stopping or self._unpositioned or self._unreadable or self._in_flight.is_full:
            if not self.paused:
                self._subscription.pause()
                self.paused = True
        elif self.paused and self._in_flight.has_room:
            self._subscription.resume()
            self.paused = False

    def _follow_assignment(self, seen: Poll) -> None:
        for number in sorted(seen.revoked):
            logger.info("partition %d was taken away", number, extra={"partition": number})
            self._fence.raise_epoch(number)
            self._positions.pop(number, None)
            self._unpositioned.pop(number, None)
            self._unreadable.discard(number)
        self._unreadable |= seen.unreadable & self._positions.keys()
        for number in seen.assigned | (seen.out_of_range - self._unpositioned.keys()):
            self._ask_position(number)
        if seen.assigned:
            self.paused = False  # a new assignment begins unpaused; the gate closes before the next poll
            self._set_gate()

    def _ask_position(self, number: int, *, damaged: bool = False) -> None:
        epoch = self._fence.raise_epoch(number)
        self._positions.pop(number, None)
        self._unreadable.discard(number)
        self._unpositioned[number] = epoch
        self._requests.put(PositionRequest(number, epoch, damaged))

    def _ask_about_damage(self) -> None:
        # Not before: a new position makes stale, and has read again, what is still on its way.
        if self._unreadable and not self._in_flight.records:
            for number in sorted(self._unreadable):
                self._ask_position(number, damaged=True)

    def _compare_with(self, answer: LogEnds) -> None:
        for bounds in answer.bounds:
            position = self._positions.get(bounds.partition.number)
            if position is not None and position.partition != bounds.partition:
                self._ask_position(bounds.partition.number)  # the topic was made anew, unnoticed by the client
        self._watchdog.hear(self._starts(), {bounds.partition.number: bounds.end for bounds in answer.bounds})

    def _starts(self) -> dict[int, int]:
        return {number: position.start for number, position in self._positions.items()}

    def _take(self, number: int, fetched: Fetched) -> None:
        position = self._positions.get(number)
        if position is None:
            return  # fetched before the seek
        if fetched.topic_id != position.partition.topic_id:
            self._ask_position(number)
            return
        chunks = [fetched.records[i : i + self._max_range] for i in range(0, len(fetched.records), self._max_range)]
        ends = [chunk[-1].offset + 1 for chunk in chunks[:-1]] + [fetched.end]
        for records, end in zip(chunks or [()], ends, strict=True):
            if end <= position.start:
                continue
            isolated = position.start < position.isolated_until
            portion = Range(position.partition, position.start, end, position.epoch, records, isolated)
            position.start = end
            self._in_flight.add(portion)
            self._forward(portion)
