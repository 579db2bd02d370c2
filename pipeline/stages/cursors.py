"""Where each partition is read on: cursors taken over, made, and moved past what the log holds no longer."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from pipeline.errors import InconsistentLog
from pipeline.ingest.source import Topic
from pipeline.records import Bounds, LogRetention, Partition, Range
from pipeline.stages.flow import Flow, LogEnds, Positioned, PositionRequest
from pipeline.storage.streams import Cursor, begin_stream, expire, note_log, positions, release, take_over

logger = logging.getLogger(__name__)

#: Taken over so often without one commit, a stream has a record in front that kills workers.
ATTEMPTS_BEFORE_ISOLATION = 3

_RETENTION_EVERY = timedelta(minutes=1)  # it is asked for

#: Where a deployment begins to read a partition that it has never seen.
StartAt = Callable[[Topic, Bounds], int]


class Cursors:
    """The cursors of one worker's partitions. Used by the writer thread; the others may look."""

    def __init__(
        self,
        engine: Engine,
        topic: Topic,
        flow: Flow,
        *,
        deployment_id: int,
        owner: str,
        start_at: StartAt,
        isolation_span: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._topic = topic
        self._flow = flow
        self._deployment_id = deployment_id
        self._owner = owner
        self._start_at = start_at
        self._isolation_span = isolation_span  # records scored one by one where something kills workers
        self._clock = clock
        self._bounds: dict[int, Bounds] = {}
        self._retention: tuple[datetime, LogRetention] | None = None  # as asked at that time
        self._unproven: dict[int, tuple[int, int]] = {}  # stream -> partition and epoch: taken over, nothing stored yet
        self.streams: dict[Partition, int] = {}
        self._progress = flow.progress

    @property
    def log_ends(self) -> Mapping[Partition, int]:
        """How far the log reaches, as last seen."""
        return {bounds.partition: bounds.end for bounds in self._bounds.values()}

    def lag(self, partition: Partition) -> int:
        """Records between a partition's cursor and the log's end, both as last seen. Any thread may ask."""
        bounds, position = self._bounds.get(partition.number), self._progress.positions.get(partition)
        if bounds is None or position is None or bounds.partition != partition:
            return 0
        return max(0, bounds.end - position)

    def answer(self, request: PositionRequest) -> None:
        """Read or make the cursor, account for what is gone, and tell the poll thread where to read on."""
        if not self._flow.fence.is_current(request.partition, request.epoch):
            return
        (bounds,) = self._topic.bounds([request.partition])
        partition = bounds.partition
        cursor = self._take(bounds)
        if request.damaged:
            cursor = self._beyond_damage(cursor, partition)
        self.streams[partition] = cursor.stream_id
        self._unproven[cursor.stream_id] = request.partition, request.epoch
        self._bounds[partition.number] = bounds
        self._progress.positions[partition] = cursor.next_offset
        isolate = cursor.attempts >= ATTEMPTS_BEFORE_ISOLATION and cursor.next_offset < bounds.end
        if isolate:
            logger.warning(
                "%s partition %d has been taken over %d times without progress: from offset %d on, %d records are"
                " scored one by one in a child process",
                partition.topic,
                partition.number,
                cursor.attempts,
                cursor.next_offset,
                self._isolation_span,
            )
        isolated_until = cursor.next_offset + self._isolation_span if isolate else 0
        self._flow.answers.put(Positioned(partition, request.epoch, cursor.next_offset, isolated_until))

    def note_stored(self, portion: Range) -> None:
        """A range is committed."""
        self._progress.positions[portion.partition] = portion.end
        self._unproven.pop(self.streams[portion.partition], None)

    def withdraw(self) -> None:
        """What a living worker hands over in a rebalance, or asks for again, is no failed attempt."""
        stale = [stream for stream, claim in self._unproven.items() if not self._flow.fence.is_current(*claim)]
        if not stale:
            return
        with self._engine.begin() as conn:
            release(conn, stale)
        for stream in stale:
            del self._unproven[stream]

    def release(self, conn: Connection) -> None:
        """An orderly end: the next worker's takeover is no second attempt."""
        release(conn, list(self._unproven))

    def refresh_log_ends(self) -> None:
        """Note how far the log reaches: the ledger counts what waits, the poll thread what does not come."""
        now = self._clock()
        everything = self._topic.bounds()
        self._flow.answers.put(LogEnds(tuple(everything)))
        self._bounds = {bound.partition.number: bound for bound in everything if bound.partition in self.streams}
        retention = self._ask_retention(now)
        with self._engine.begin() as conn:
            stored = positions(conn, self._deployment_id, self._topic.name)
            ours = {self.streams[bound.partition]: bound for bound in self._bounds.values()}
            caught_up = {key for key, bound in ours.items() if stored.get(bound.partition, -1) >= bound.end}
            note_log(conn, ours, retention, caught_up, now=now)
        for bound in everything:
            self._require_in_log(bound, stored.get(bound.partition, 0))
        self._progress.positions |= stored  # others' too: a drain ends when the group has read everything

    def _ask_retention(self, now: datetime) -> LogRetention:
        if self._retention is None or not self._retention[0] <= now < self._retention[0] + _RETENTION_EVERY:
            self._retention = now, self._topic.retention()
        return self._retention[1]

    def _take(self, bounds: Bounds) -> Cursor:
        """The cursor, taken over or made; behind what retention has deleted meanwhile."""
        now, partition = self._clock(), bounds.partition
        with self._engine.begin() as conn:
            cursor = take_over(conn, self._deployment_id, partition, owner=self._owner, now=now)
            if cursor is None:
                first = self._start_at(self._topic, bounds)
                return begin_stream(conn, self._deployment_id, bounds, first=first, owner=self._owner, now=now)
            if cursor.next_offset >= bounds.beginning:
                self._require_in_log(bounds, cursor.next_offset)
                return cursor
            expire(conn, cursor.stream_id, position=cursor.next_offset, beginning=bounds.beginning, now=now)
        self._note_gone(
            partition, cursor.next_offset, bounds.beginning, "were deleted by retention before they were read"
        )
        return replace(cursor, next_offset=bounds.beginning)

    def _beyond_damage(self, cursor: Cursor, partition: Partition) -> Cursor:
        """Where bytes in front of the cursor cannot be read, account for them and go on behind."""
        start = cursor.next_offset
        readable = self._topic.first_readable(partition.number, start)
        if readable == start or self._topic.topic_id() != partition.topic_id:
            return cursor
        now = self._clock()
        with self._engine.begin() as conn:
            moved = expire(conn, cursor.stream_id, position=start, beginning=readable, reason="corrupt", now=now)
        if not moved:
            return cursor  # somebody else has it now; the next compare-and-set finds that out
        self._note_gone(partition, start, readable, "are damaged in the log and cannot be read")
        return replace(cursor, next_offset=readable)

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

    def _note_gone(self, partition: Partition, start: int, end: int, what: str) -> None:
        self._progress.expired += end - start
        where = {"topic": partition.topic, "partition": partition.number, "start": start, "end": end}
        logger.error(
            "%s partition %d: offsets %d to %d %s", partition.topic, partition.number, start, end, what, extra=where
        )
