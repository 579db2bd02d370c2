"""Reading a Kafka topic as a member of a group; the manners that kafka-python 3 needs are all here.

- Positions come from the database. Every assignment begins with a provisional seek and a pause, in the
  listener, which runs on the client's own thread: memory only, and it never raises.
- All partitions are paused and resumed together: one that is paused alone may never come back.
- Fetches name the topic, not its id. So the id is asked before the client is made, every record of this
  client is said to be of that id, and a client is never used for another incarnation: together with the
  writer's check after the fetch this proves what the records are.
- After an exception that is not understood in full the client is made anew: it may have lost records.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CorruptRecordError,
    FencedInstanceIdError,
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
)
from kafka.record.util import crc32c_c

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.kafka_client import make_consumer, to_record
from pipeline.ingest.kafka_errors import answer_to
from pipeline.ingest.kafka_listener import Changes, Listener, finish_joins
from pipeline.ingest.kafka_options import KafkaOptions
from pipeline.ingest.kafka_topic import KafkaTopic
from pipeline.ingest.source import Fetched, Poll
from pipeline.records import Partition, Record

logger = logging.getLogger(__name__)

_RETRY_S = 1.0  # between attempts to reach the brokers
_COMMIT_PATIENCE_S = 30.0  # an advisory commit without an answer is then forgotten
_CLOSE_MS = 5_000


class KafkaSubscription:
    """One member of the group. Used by one thread."""

    def __init__(
        self,
        options: KafkaOptions,
        *,
        group: str,
        max_records: int,
        max_bytes: int,
        timeout_s: float = 10.0,
        topic: KafkaTopic | None = None,
        make_consumer: Callable[..., Any] = make_consumer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is asked of a broker before the first poll.

        Raises UsageError where checksums would be computed in Python.
        """
        require_fast_checksums(crc32c_c)
        self._options = options
        self._config = options.for_member(group, max_records=max_records, max_bytes=max_bytes, timeout_s=timeout_s)
        self._topic = topic or KafkaTopic(options, timeout_s=timeout_s)
        self._make_consumer = make_consumer
        self._clock = clock
        self._closed = threading.Event()
        self._consumer: Any = None
        self._topic_id = ""
        self._changes = Changes()
        self._ends: dict[int, int] = {}  # where the next fetch of each sought partition begins
        self._paused = False
        self._damaged = False  # the client has stumbled: it spins unless all is paused or it is made anew
        self._leaving = ""  # why the client is to be made anew at the next poll
        self._join_at = 0.0
        self._to_commit: dict[int, int] = {}
        self._commit_sent_at: float | None = None
        self.trouble: str | None = None  # why there is no membership; None when there is one

    @property
    def standby(self) -> str | None:
        """Who has the partitions while this member, having joined, has none; else None. Any thread may ask."""
        return "other members of the group" if self._changes.joined and not self._changes.held else None

    def poll(self, timeout_s: float) -> Poll:
        """Records of sought partitions. Raises UsageError for what a person must mend."""
        if self._leaving:
            return self._leave()
        if self._consumer is None and not self._join(timeout_s):
            return Poll()
        found: Mapping[TopicPartition, list[Any]] = {}
        outside: frozenset[int] = frozenset()
        unreadable: frozenset[int] = frozenset()
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        except OffsetOutOfRangeError as error:
            outside = frozenset(place.partition for place in error.args[0])
        except LogTruncationError as error:
            outside = self._truncated(error)
        except CorruptRecordError as error:
            unreadable = self._stumbled(error)
        except Exception as error:
            self._renew(error)
            return self._leave()
        self._commit()
        fetched, truncated = self._fetched(found)
        revoked, assigned = self._changes.take()
        for number in revoked | assigned:
            self._ends.pop(number, None)
        return Poll(revoked, assigned, fetched, outside | truncated, unreadable)

    def seek(self, partition: Partition, offset: int) -> None:
        """Read this partition from here on; another incarnation of the topic with a new client."""
        if partition.topic_id != self._topic_id:
            self._leaving = "the topic has been made anew"
        elif self._place(partition.number) in self._consumer.assignment():
            self._consumer.seek(self._place(partition.number), offset)
            self._ends[partition.number] = offset

    def pause(self) -> None:
        """Stop fetching from all assigned partitions; polling goes on."""
        self._paused = True
        if self._consumer is not None:
            self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Fetch again from all assigned partitions; after damage with a new client."""
        self._paused = False
        if self._damaged:
            self._leaving = "damaged records were found and have been asked about"
        if self._consumer is not None and not self._leaving:
            self._consumer.resume(*self._consumer.assignment())

    def acknowledge(self, ends: Mapping[int, int]) -> None:
        """Commit for lag tools only: without waiting, and one at a time."""
        self._to_commit |= ends
        self._commit()

    def close(self) -> None:
        """Leave the group; a static member keeps its place until the session ends."""
        self._closed.set()
        self._close_consumer()
        self._topic.close()

    def _join(self, timeout_s: float) -> bool:
        """Make a client that has asked for membership; False, later again, where nobody answers."""
        wait_s = self._join_at - self._clock()
        if wait_s > 0:
            self._closed.wait(min(timeout_s, wait_s))
            return False
        try:
            self._topic_id = self._topic.topic_id()  # before the first fetch: see the module's text
            self._consumer = self._make_consumer(**self._config)
            finish_joins(self._consumer)
            self._consumer.subscribe([self._options.topic], listener=Listener(self._consumer, self._changes))
            # A leader without metadata would hand out nothing, and everybody would join twice.
            self._consumer.partitions_for_topic(self._options.topic)
        except (EnvironmentFault, KafkaError, OSError, RuntimeError, ValueError) as error:
            self._renew(error)
            self._close_consumer()
            self._leaving = ""
            return False
        self._note(None)
        return True

    def _leave(self) -> Poll:
        logger.warning("leaving %s to join it anew: %s", self._options.address, self._leaving)
        self._close_consumer()
        revoked, assigned = self._changes.take()
        gone = revoked | assigned | self._changes.held
        self._changes = Changes()
        self._leaving = ""
        return Poll(revoked=gone)

    def _close_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._ends.clear()
        self._to_commit.clear()
        self._commit_sent_at = None
        self._damaged = False
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
            except Exception as error:  # it is thrown away in any case
                logger.info("closing the client of %s: %s", self._options.address, error)

    def _renew(self, error: Exception) -> None:
        """The client may have lost records on the way: a new one reads again from the cursor."""
        fault = error if isinstance(error, EnvironmentFault) else answer_to(error, self._options)
        if not isinstance(fault, EnvironmentFault):
            raise fault from error
        self._note(str(fault))
        self._leaving = str(fault)
        self._join_at = self._clock() + _RETRY_S

    def _note(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self.trouble:
            logger.warning("%s; trying again", trouble)
        self.trouble = trouble

    def _truncated(self, error: LogTruncationError) -> frozenset[int]:
        # The writer finds out what it is: a topic made anew, retention, or a log that lost its end.
        logger.warning("%s: %s; asking where the database stands", self._options.address, error)
        return frozenset(place.partition for place in error.divergent_offsets)

    def _stumbled(self, error: CorruptRecordError) -> frozenset[int]:
        logger.error("%s: %s", self._options.address, error)
        self._damaged = True
        self.pause()  # unpaused, the next poll would never return
        return self._changes.held

    def _fetched(self, found: Mapping[TopicPartition, list[Any]]) -> tuple[dict[int, Fetched], frozenset[int]]:
        """Records with the holes behind them, and partitions whose log was truncated meanwhile."""
        fetched = {
            place.partition: Fetched(self._topic_id, self._records(place.partition, messages), messages[-1].offset + 1)
            for place, messages in found.items()
        }
        truncated: frozenset[int] = frozenset()
        for number, end in self._ends.items() if not self._paused else ():
            try:
                position = self._consumer.position(self._place(number), timeout_ms=0)
            except LogTruncationError as error:
                truncated |= self._truncated(error)
                continue
            except KafkaError:  # no longer assigned; the listener has said so
                continue
            if position is not None and position > end:
                records = fetched[number].records if number in fetched else ()
                fetched[number] = Fetched(self._topic_id, records, position)
        self._ends |= {number: part.end for number, part in fetched.items() if number in self._ends}
        return fetched, truncated

    def _records(self, number: int, messages: list[Any]) -> tuple[Record, ...]:
        partition = Partition(self._options.topic, self._topic_id, number)
        return tuple(to_record(partition, message) for message in messages)

    def _commit(self) -> None:
        now = self._clock()
        waiting = self._commit_sent_at is not None and now - self._commit_sent_at < _COMMIT_PATIENCE_S
        if not self._to_commit or waiting or self._consumer is None or self._leaving:
            return
        assigned = self._consumer.assignment()
        ends = {self._place(number): end for number, end in self._to_commit.items()}
        offsets = {place: OffsetAndMetadata(end, "", -1) for place, end in ends.items() if place in assigned}
        self._to_commit.clear()
        if not offsets:
            return
        self._commit_sent_at = now
        try:
            self._consumer.commit_async(offsets, callback=self._committed)
        except FencedInstanceIdError as error:
            raise answer_to(error, self._options) from error
        except KafkaError as error:
            self._committed(offsets, error)

    def _committed(self, _offsets: object, answer: object) -> None:
        self._commit_sent_at = None
        if isinstance(answer, Exception):
            logger.info("advisory commit to %s: %s", self._options.address, answer)

    def _place(self, number: int) -> TopicPartition:
        return TopicPartition(self._options.topic, number)


def require_fast_checksums(implementation: object) -> None:
    """Refuse kafka-python's own CRC-32C: it works silently and takes 13 to 28 times the CPU."""
    if implementation is None:
        raise UsageError(
            "the Python package crc32c is missing: consuming would take over 13 times the CPU;"
            " install kafka-python[crc32c]"
        )
