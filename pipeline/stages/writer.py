"""The writer thread: the only one that touches the database.

It answers the poll thread's questions (where does the cursor stand?) before it stores batches, and it
alone meets the compare-and-set. A database that does not answer is retried with the same ranges for as
long as they are current; the queues fill, the poll thread pauses, and nothing is lost.
"""

import logging
import queue
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from threading import Event
from typing import TypeVar

import numpy as np
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from pipeline.errors import EnvironmentFault, InconsistentLog
from pipeline.ingest.source import Topic
from pipeline.records import Bounds, Partition, ScoredBatch
from pipeline.stages.flow import (
    Answer,
    Fence,
    InFlight,
    LogEnds,
    Positioned,
    PositionRequest,
    Rejected,
    Stored,
    place,
)
from pipeline.stages.rows import Entry, without_ranges
from pipeline.stages.sampling import Sampler
from pipeline.stages.sink import Sink
from pipeline.storage.engine import describe, is_transient, translated
from pipeline.storage.schema import to_microseconds
from pipeline.storage.streams import Cursor, begin_stream, expire, note_log_ends, positions, release, take_over

logger = logging.getLogger(__name__)

#: Taken over so often without one commit, a stream has a record in front that kills workers.
ATTEMPTS_BEFORE_ISOLATION = 3

#: Where a deployment begins to read a partition that it has never seen.
StartAt = Callable[[Topic, Bounds], int]

T = TypeVar("T")


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
    positions: dict[Partition, int] = field(default_factory=dict)


class Writer:
    """Positions partitions and stores batches, one transaction each."""

    def __init__(
        self,
        engine: Engine,
        topic: Topic,
        sink: Sink,
        sampler: Sampler,
        *,
        fence: Fence,
        in_flight: InFlight,
        requests: "queue.SimpleQueue[PositionRequest]",
        answers: "queue.SimpleQueue[Answer]",
        start_at: StartAt,
        isolation_span: int,
        clock: Callable[[], datetime],
        give_up: Event,
        on_stored: Callable[[Entry], None] = lambda entry: None,
        beat: Callable[[], None] = lambda: None,
        farewell: Callable[[Connection], None] = lambda conn: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._engine = engine
        self._topic = topic
        self._sink = sink
        self._sampler = sampler
        self._fence = fence
        self._in_flight = in_flight
        self._requests = requests
        self._answers = answers
        self._start_at = start_at
        self._isolation_span = isolation_span
        self._clock = clock
        self._give_up = give_up
        self._on_stored = on_stored  # told once a batch, after the commit
        self._beat = beat  # a database that is tried again for hours is no silent thread
        self._farewell = farewell  # part of the last transaction of an orderly end
        self._jitter = jitter
        self._streams: dict[Partition, int] = {}
        self._bounds: dict[int, Bounds] = {}
        self._last_hash: dict[str, bytes] = {}
        self.progress = Progress()
        self._unproven: dict[int, tuple[int, int]] = {}  # stream -> partition and epoch: taken over, nothing stored yet
        self._troubles: dict[str, str] = {}  # what does not answer: why

    @property
    def trouble(self) -> str | None:
        """Why the database or the log is being tried again; None when both answer. Any thread may ask."""
        return "; ".join(tuple(self._troubles.values())) or None

    def answer_requests(self) -> None:
        """Tell the poll thread where to read on."""
        if handed_over := [stream for stream, claim in self._unproven.items() if not self._fence.is_current(*claim)]:
            self.retrying(partial(self._withdraw, handed_over))
        while True:
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return
            self.retrying(partial(self._position, request), lambda: True)

    def store(self, batch: ScoredBatch) -> None:
        """Write a batch and answer for each of its ranges; what is stale or fenced is dropped."""
        began_s = time.monotonic()
        entry = self._entry(batch)
        entry = self._drop(entry, self._stale(entry.batch))
        drafts = self._sampler.draft(entry) if entry.batch.ranges else ()

        def attempt() -> frozenset[int] | None:
            topic_id = self._topic.topic_id()  # asked after the fetch: ids never come back
            if any(portion.partition.topic_id != topic_id for portion in entry.batch.ranges):
                return None
            with self._engine.begin() as conn:
                return self._sink.write(
                    conn,
                    entry,
                    drafts,
                    stream_ids=self._streams,
                    log_ends={bounds.partition: bounds.end for bounds in self._bounds.values()},
                    now=self._clock(),
                )

        if not entry.batch.ranges:
            return
        fenced = self.retrying(attempt, lambda: len(self._stale(entry.batch)) < len(entry.batch.ranges))
        if fenced is None:
            self._drop(entry, range(len(entry.batch.ranges)))
            return
        for at in sorted(fenced):
            portion = entry.batch.ranges[at]
            logger.warning(
                "%s partition %d: offsets %d to %d were stored by another worker; dropped here",
                portion.partition.topic,
                portion.partition.number,
                portion.start,
                portion.end,
                extra=place(portion) | {"owner": self._sink.owner},
            )
        self.progress.fenced += len(fenced)
        self._finish(replace(self._drop(entry, fenced), store_s=time.monotonic() - began_s))

    def end(self) -> None:
        """An orderly stop: the next worker's takeover is no second attempt.

        Left out where the database does not answer: a stop must not wait for it.
        """
        if self.trouble is not None:
            return
        try:
            with self._engine.begin() as conn:
                release(conn, list(self._unproven))
                self._farewell(conn)
        except DBAPIError as error:
            logger.warning("%s; stopping without it", self._note_trouble(error))

    def _withdraw(self, streams: Sequence[int]) -> None:
        """What a living worker hands over in a rebalance, or asks for again, is no failed attempt."""
        with self._engine.begin() as conn:
            release(conn, streams)
        for stream in streams:
            del self._unproven[stream]

    def lag(self, partition: Partition) -> int:
        """Records between a partition's cursor and the log's end, both as last seen. Any thread may ask."""
        bounds, position = self._bounds.get(partition.number), self.progress.positions.get(partition)
        if bounds is None or position is None or bounds.partition != partition:
            return 0
        return max(0, bounds.end - position)

    def _finish(self, entry: Entry) -> None:
        batch = entry.batch
        for image in batch.images:
            self._last_hash[image.message.segment] = image.value_sha256
        self.progress.scored += len(batch.images)
        self.progress.dead += len(batch.dead)
        self.progress.flagged += int(entry.flags.sum())
        for portion in batch.ranges:
            self.progress.positions[portion.partition] = portion.end
            self._unproven.pop(self._streams[portion.partition], None)
            self._in_flight.remove(portion)
            self._answers.put(Stored(portion))
        self._on_stored(entry)

    def _entry(self, batch: ScoredBatch) -> Entry:
        last = dict(self._last_hash)
        repeats = []
        for image in batch.images:
            repeats.append(last.get(image.message.segment) == image.value_sha256)
            last[image.message.segment] = image.value_sha256
        return Entry(
            batch=batch,
            flags=batch.scores.score > self._sink.reference.threshold,
            repeats=np.array(repeats, dtype=np.bool_),
            counted=np.array([not image.message.drill for image in batch.images], dtype=np.bool_),
            event_times=np.array([to_microseconds(image.message.event_time) for image in batch.images], np.int64),
        )

    def _stale(self, batch: ScoredBatch) -> list[int]:
        return [
            at
            for at, portion in enumerate(batch.ranges)
            if not self._fence.is_current(portion.partition.number, portion.epoch)
        ]

    def _drop(self, entry: Entry, indices: "range | list[int] | frozenset[int]") -> Entry:
        if not indices:
            return entry
        for at in indices:
            portion = entry.batch.ranges[at]
            self._in_flight.remove(portion)
            self._answers.put(Rejected(portion))
        return without_ranges(entry, frozenset(indices))

    def _position(self, request: PositionRequest) -> None:
        """Read or make the cursor; where retention has overtaken it, account for what is gone."""
        if not self._fence.is_current(request.partition, request.epoch):
            return
        (bounds,) = self._topic.bounds([request.partition])
        with self._engine.begin() as conn:
            cursor = self._cursor(conn, bounds)
        if request.damaged:
            cursor = self._beyond_damage(cursor, bounds.partition)
        self._streams[bounds.partition] = cursor.stream_id
        self._unproven[cursor.stream_id] = request.partition, request.epoch
        self._bounds[bounds.partition.number] = bounds
        self.progress.positions[bounds.partition] = cursor.next_offset
        isolate = cursor.attempts >= ATTEMPTS_BEFORE_ISOLATION and cursor.next_offset < bounds.end
        if isolate:
            logger.warning(
                "partition %d has been taken over %d times without progress: from offset %d on, %d records are"
                " scored one by one in a child process",
                request.partition,
                cursor.attempts,
                cursor.next_offset,
                self._isolation_span,
            )
        alone_until = cursor.next_offset + self._isolation_span if isolate else 0
        self._answers.put(Positioned(bounds.partition, request.epoch, cursor.next_offset, alone_until))

    def _cursor(self, conn: Connection, bounds: Bounds) -> Cursor:
        now, sink, partition = self._clock(), self._sink, bounds.partition
        cursor = take_over(conn, sink.deployment_id, partition, owner=sink.owner, now=now)
        if cursor is None:
            first = self._start_at(self._topic, bounds)
            return begin_stream(conn, sink.deployment_id, bounds, first=first, owner=sink.owner, now=now)
        self._require_in_log(bounds, cursor.next_offset)
        if cursor.next_offset < bounds.beginning:
            lost = bounds.beginning - cursor.next_offset
            logger.error(
                "%s partition %d: retention deleted offsets %d to %d before they were read",
                partition.topic,
                partition.number,
                cursor.next_offset,
                bounds.beginning,
                extra={
                    "topic": partition.topic,
                    "partition": partition.number,
                    "start": cursor.next_offset,
                    "end": bounds.beginning,
                },
            )
            expire(conn, cursor.stream_id, position=cursor.next_offset, beginning=bounds.beginning, now=now)
            self.progress.expired += lost
            return Cursor(cursor.stream_id, bounds.beginning, cursor.attempts)
        return cursor

    def _require_in_log(self, bounds: Bounds, position: int) -> None:
        """A cursor beyond the log's end, asked once more: it may have moved since the bounds were asked."""
        if position <= bounds.end:
            return
        (now,) = self._topic.bounds([bounds.partition.number])
        if now.partition == bounds.partition and position > now.end:
            raise InconsistentLog(
                f"{now.partition.topic} partition {now.partition.number}: the database has stored up to offset"
                f" {position}, but the log ends at {now.end}: it was truncated or restored from a backup;"
                " records that reuse offsets cannot be told apart, so make a new topic"
            )

    def _beyond_damage(self, cursor: Cursor, partition: Partition) -> Cursor:
        """Where bytes in front of the cursor cannot be read, account for them and go on behind."""
        start = cursor.next_offset
        readable = self._topic.first_readable(partition.number, start)
        if readable == start or self._topic.topic_id() != partition.topic_id:
            return cursor
        logger.error(
            "%s partition %d: offsets %d to %d are damaged in the log and cannot be read",
            partition.topic,
            partition.number,
            start,
            readable,
        )
        with self._engine.begin() as conn:
            now = self._clock()
            if expire(conn, cursor.stream_id, position=start, beginning=readable, reason="corrupt", now=now):
                self.progress.expired += readable - start
                return replace(cursor, next_offset=readable)
        return cursor  # somebody else has it now; the next compare-and-set finds that out

    def refresh_log_ends(self) -> None:
        """Note how far the log reaches: the ledger counts what waits, the poll thread what does not come."""

        def attempt() -> None:
            everything = self._topic.bounds()
            self._answers.put(LogEnds(tuple(everything)))
            self._bounds = {bound.partition.number: bound for bound in everything if bound.partition in self._streams}
            with self._engine.begin() as conn:
                note_log_ends(conn, {self._streams[bound.partition]: bound.end for bound in self._bounds.values()})
                stored = positions(conn, self._sink.deployment_id, self._topic.name)
            for bound in everything:
                self._require_in_log(bound, stored.get(bound.partition, 0))
            self.progress.positions |= stored  # others' too: a drain ends when the group has read everything

        self.retrying(attempt, asks=("source",))

    def _note_trouble(self, error: DBAPIError | EnvironmentFault) -> str:
        """What is wrong with the environment; anything else ends the worker."""
        if isinstance(error, EnvironmentFault):
            self.progress.source_retries += 1
            self._troubles["source"] = str(error)
            return str(error)
        if not is_transient(error):
            raise translated(error, self._engine.url) from error
        self.progress.database_retries += 1
        self._troubles["database"] = describe(error, self._engine.url)
        return self._troubles["database"]

    def retrying(
        self,
        attempt: Callable[[], T],
        is_wanted: Callable[[], bool] = lambda: False,
        *,
        asks: Collection[str] = ("database", "source"),
    ) -> T | None:
        """Run until it succeeds; None when it fails and is no longer wanted, or the worker has to end.

        `asks` says who has answered when it succeeds: trouble with the other one is not over by that.
        """
        pause_s = 0.2
        while True:
            try:
                result = attempt()
            except (DBAPIError, EnvironmentFault) as error:
                known = self.trouble
                trouble = self._note_trouble(error)
                if self.trouble != known:  # once, not at every attempt of an hour
                    logger.warning("%s; trying again", trouble)
            else:
                for which in asks:
                    if self._troubles.pop(which, None) is not None:
                        logger.info("the %s answers again", which)
                return result
            self._beat()
            # Full jitter: workers that lost the same database do not come back together.
            if self._give_up.wait(pause_s * self._jitter()) or not is_wanted():
                return None
            pause_s = min(pause_s * 2, 30.0)
