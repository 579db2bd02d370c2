"""The worker: every record of the log ends as exactly one row or exactly one dead letter.

    poll thread     log → ranges                                  stages/intake.py
    decode pool     record → prepared image | dead letter          stages/preparation.py
    model thread    batch → logits, features → energy              stages/inference.py
    writer thread   one transaction: cursor + rows + roll-up parts  stages/writer.py, sink.py

Queues between them are bounded in bytes. Only the poll thread touches the log, only the writer thread
the database, only the model thread the device. Killing the process at any moment is safe.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.errors import EnvironmentFault
from pipeline.ingest.source import Subscription
from pipeline.records import Bounds, Range, ScoredBatch
from pipeline.stages.flow import InFlight
from pipeline.stages.inference import Inference
from pipeline.stages.intake import Intake
from pipeline.stages.preparation import Preparation, Prepared
from pipeline.stages.writer import Progress, Writer

logger = logging.getLogger(__name__)

_BEAT_S = 0.05  # how long a thread waits at most before it looks around
_DECODE_CHUNK = 16  # records a task: enough to hide the pool's own cost


@dataclass(frozen=True, slots=True)
class Pace:
    """How work is gathered and how long to wait."""

    max_batch: int = 256
    max_wait_s: float = 0.05  # a batch leaves at the latest when its oldest record is this old
    decode_threads: int = 2
    drain_deadline_s: float = 20.0
    poll_silence_s: float = 60.0  # a poll thread that does not return for so long ends the worker


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A range whose records are being prepared."""

    portion: Range
    prepared: Sequence["Future[list[Prepared]]"]
    since: float

    def results(self) -> list[Prepared]:
        return [item for future in self.prepared for item in future.result()]


class Worker:
    """Runs the four stages until it is told to stop, has drained the log, or cannot go on."""

    def __init__(
        self,
        *,
        subscription: Subscription,
        intake: Callable[[Callable[[Range], None]], Intake],
        preparation: Preparation,
        inference: Inference,
        writer: Writer,
        in_flight: InFlight,
        give_up: threading.Event,
        pace: Pace,
        housekeeping: Callable[[], None] = lambda: None,
    ) -> None:
        self._subscription = subscription
        self._intake = intake(self._prepare)
        self._preparation = preparation
        self._inference = inference
        self._writer = writer
        self._in_flight = in_flight
        self._give_up = give_up  # ends retries; set when the deadline has passed or a thread has failed
        self._pace = pace
        self._housekeeping = housekeeping
        self._pool = ThreadPoolExecutor(pace.decode_threads, thread_name_prefix="decode")
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._scored: queue.Queue[ScoredBatch] = queue.Queue(maxsize=4)
        self._finished = threading.Event()
        self._failure: BaseException | None = None
        self._last_poll = time.monotonic()

    @property
    def progress(self) -> Progress:
        """What has been stored so far."""
        return self._writer.progress

    def run(self, stop: threading.Event, *, drain_to: Sequence[Bounds] | None = None) -> Progress:
        """Work until `stop` is set or, with `drain_to`, until every partition's end there is passed.

        Returns after everything in flight is stored, or after the drain deadline: leaving work
        undone is safe, the cursor stands before it. Raises what ended a thread.
        """
        threads = [
            threading.Thread(target=self._guarded, args=(turn,), name=name, daemon=True)
            for name, turn in (("poll", self._poll), ("model", self._infer), ("writer", self._write))
        ]
        for thread in threads:
            thread.start()
        while not (stop.wait(_BEAT_S) or self._failure or self._drained(drain_to)):
            self._check_poll_thread()
        self._intake.stop_fetching()
        deadline = time.monotonic() + self._pace.drain_deadline_s
        while self._in_flight.records and not self._failure and time.monotonic() < deadline:
            self._finished.wait(_BEAT_S)
        self._finished.set()
        self._give_up.set()
        for thread in threads:
            thread.join(timeout=5.0)
        self._pool.shutdown(wait=False, cancel_futures=True)
        try:
            if self._failure is not None:
                raise self._failure
            self._writer.end()
        finally:
            poller, *_ = threads
            if not poller.is_alive():  # two threads must never touch it; a member that is gone is noticed anyway
                self._subscription.close()
        return self._writer.progress

    def _poll(self) -> None:
        self._last_poll = time.monotonic()
        self._intake.step(_BEAT_S)

    def _prepare(self, portion: Range) -> None:
        """Hand a range to the decode pool; ranges keep their order because their futures do."""
        records = () if portion.alone else portion.records
        tasks = [
            self._pool.submit(self._preparation.prepare_all, records[first : first + _DECODE_CHUNK])
            for first in range(0, len(records), _DECODE_CHUNK)
        ]
        self._waiting.put(_Waiting(portion, tasks, time.monotonic()))

    def _infer(self) -> None:
        gathered = self._gather()
        if not gathered:
            return
        batch = self._inference.score_ranges(
            [waiting.portion for waiting in gathered], [waiting.results() for waiting in gathered]
        )
        while not self._finished.is_set():
            try:
                self._scored.put(batch, timeout=_BEAT_S)
            except queue.Full:
                continue
            return

    def _gather(self) -> list[_Waiting]:
        """A batch leaves when full, when its oldest record has waited enough, or when nothing else is near."""
        gathered: list[_Waiting] = []
        size = 0
        timeout = _BEAT_S
        while size < self._pace.max_batch:
            try:
                waiting = self._waiting.get(timeout=timeout)
            except queue.Empty:
                break
            gathered.append(waiting)
            size += len(waiting.portion.records)
            everything = self._in_flight.records <= size
            age = time.monotonic() - gathered[0].since
            timeout = 0.0 if everything else max(0.0, self._pace.max_wait_s - age)
        return gathered

    def _write(self) -> None:
        self._writer.answer_requests()
        with contextlib.suppress(queue.Empty):
            self._writer.store(self._scored.get(timeout=_BEAT_S))
        self._housekeeping()

    def _guarded(self, turn: Callable[[], None]) -> None:
        """Repeat a thread's turn; whatever it cannot answer ends the worker, with the reason."""
        try:
            while not self._finished.is_set():
                turn()
        except BaseException as failure:
            if self._failure is None:
                self._failure = failure
            self._give_up.set()

    def _drained(self, targets: Sequence[Bounds] | None) -> bool:
        if targets is None:
            return False
        positions = self._writer.progress.positions
        return all(positions.get(bounds.partition, -1) >= bounds.end for bounds in targets)

    def _check_poll_thread(self) -> None:
        silent_s = time.monotonic() - self._last_poll
        if silent_s > self._pace.poll_silence_s:
            self._finished.set()
            self._give_up.set()
            raise EnvironmentFault(f"the log's client has not returned from a poll for {silent_s:.0f} s")
