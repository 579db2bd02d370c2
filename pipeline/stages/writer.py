"""The writer thread: the only one that touches the database.

It answers the poll thread's questions (where does the cursor stand?) before it stores batches, and it
alone meets the compare-and-set. A database that does not answer is retried with the same ranges for as
long as they are current; the queues fill, the poll thread pauses, and nothing is lost.
"""

import logging
import queue
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from pipeline.ingest.source import Topic
from pipeline.records import ScoredBatch
from pipeline.stages.cursors import Cursors
from pipeline.stages.flow import Flow, Progress, Rejected, Stored, place
from pipeline.stages.retry import Retry
from pipeline.stages.rows import Entry, without_ranges
from pipeline.stages.sampling import Sampler
from pipeline.stages.sink import Sink
from pipeline.storage.engine import describe
from pipeline.storage.schema import to_microseconds

logger = logging.getLogger(__name__)


class Writer:
    """Positions partitions and stores batches, one transaction each."""

    def __init__(
        self,
        engine: Engine,
        topic: Topic,
        sink: Sink,
        sampler: Sampler,
        cursors: Cursors,
        *,
        flow: Flow,
        retry: Retry,
        clock: Callable[[], datetime],
        on_stored: Callable[[Entry], None] = lambda entry: None,
        farewell: Callable[[Connection], None] = lambda conn: None,
    ) -> None:
        self._engine = engine
        self._topic = topic
        self._sink = sink
        self._sampler = sampler
        self._flow = flow
        self._clock = clock
        self._on_stored = on_stored  # told once a batch, after the commit
        self._farewell = farewell  # part of the last transaction of an orderly end
        self._last_hash: dict[str, bytes] = {}
        self.cursors = cursors
        self.retry = retry

    @property
    def progress(self) -> Progress:
        """What has been stored so far. Any thread may ask."""
        return self._flow.progress

    def answer_requests(self) -> None:
        """Tell the poll thread where to read on."""
        self.retry(self.cursors.withdraw)
        while True:
            try:
                request = self._flow.requests.get_nowait()
            except queue.Empty:
                return
            self.retry(partial(self.cursors.answer, request), lambda: True)

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
                    stream_ids=self.cursors.streams,
                    log_ends=self.cursors.log_ends,
                    now=self._clock(),
                )

        if not entry.batch.ranges:
            return
        fenced = self.retry(attempt, lambda: len(self._stale(entry.batch)) < len(entry.batch.ranges))
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
        if self.retry.trouble is not None:
            return
        try:
            with self._engine.begin() as conn:
                self.cursors.release(conn)
                self._farewell(conn)
        except DBAPIError as error:
            logger.warning("%s; stopping without it", describe(error, self._engine.url))

    def _finish(self, entry: Entry) -> None:
        batch = entry.batch
        for image in batch.images:
            self._last_hash[image.message.segment] = image.value_sha256
        self.progress.scored += len(batch.images)
        self.progress.dead += len(batch.dead)
        self.progress.flagged += int(entry.flags.sum())
        for portion in batch.ranges:
            self.cursors.note_stored(portion)
            self._flow.in_flight.remove(portion)
            self._flow.answers.put(Stored(portion))
        self._on_stored(entry)

    def _entry(self, batch: ScoredBatch) -> Entry:
        last = dict(self._last_hash)
        repeats = []
        for image in batch.images:
            repeats.append(last.get(image.message.segment) == image.value_sha256)
            last[image.message.segment] = image.value_sha256
        return Entry(
            batch=batch,
            flags=batch.scores.score > batch.reference.threshold,
            repeats=np.array(repeats, dtype=np.bool_),
            counted=np.array([not image.message.drill for image in batch.images], dtype=np.bool_),
            event_times=np.array([to_microseconds(image.message.event_time) for image in batch.images], np.int64),
        )

    def _stale(self, batch: ScoredBatch) -> list[int]:
        return [
            at
            for at, portion in enumerate(batch.ranges)
            if not self._flow.fence.is_current(portion.partition.number, portion.epoch)
        ]

    def _drop(self, entry: Entry, indices: Collection[int]) -> Entry:
        if not indices:
            return entry
        for at in indices:
            portion = entry.batch.ranges[at]
            self._flow.in_flight.remove(portion)
            self._flow.answers.put(Rejected(portion))
        return without_ranges(entry, frozenset(indices))
