"""The worker: every record of the log ends as exactly one row or exactly one dead letter.

    poll thread     log → ranges                                  stages/intake.py
    decode pool     record → prepared image | dead letter          stages/preparation.py
    model thread    batch → logits, features → energy              stages/inference.py
    writer thread   one transaction: cursor + rows + roll-up parts  stages/writer.py, sink.py

Queues between them are bounded in bytes. Only the poll thread touches the log, only the writer thread
the database, only the model thread the device; but a promoted model is read and warmed up by a thread of its
own, and takes over between two batches (stages/serving.py). Killing the process at any moment is safe.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from pipeline.errors import StuckThread
from pipeline.ingest.source import Subscription
from pipeline.records import Bounds, Range, ScoredBatch
from pipeline.stages.flow import InFlight, Progress
from pipeline.stages.intake import Intake
from pipeline.stages.preparation import Prepared
from pipeline.stages.serving import Generation, Serving
from pipeline.stages.writer import Writer
from pipeline.telemetry.health import Pulse, WorkerState, stacks

logger = logging.getLogger(__name__)

_BEAT_S = 0.05  # how long a thread waits at most before it looks around
_DECODE_CHUNK = 16  # records a task: enough to hide the pool's own cost
_ENDING_S = 5.0  # of the drain deadline: what threads have to come round and end


@dataclass(frozen=True, slots=True)
class Pace:
    """How work is gathered and how long to wait."""

    max_batch: int = 256
    max_wait_s: float = 0.05  # a batch leaves at the latest when its oldest record is this old
    decode_threads: int = 2
    drain_deadline_s: float = 17.0  # from the wish to stop until `run` returns; the process ends within 20


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A range whose records are being prepared."""

    portion: Range
    generation: Generation  # prepares and scores it
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
        serving: Serving,
        writer: Writer,
        in_flight: InFlight,
        give_up: threading.Event,
        pace: Pace,
        pulse: Pulse,
        housekeeping: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._subscription = subscription
        self._intake = intake(self._prepare)
        self._serving = serving
        self._at_work = serving.current  # the generation of the batch at work
        self._held: _Waiting | None = None  # of the next generation: it begins the next batch
        self._writer = writer
        self._in_flight = in_flight
        self._give_up = give_up  # ends retries; set when the deadline has passed or a thread has failed
        self._pace = pace
        self._pulse = pulse
        self._housekeeping = housekeeping
        self._pool = ThreadPoolExecutor(pace.decode_threads, thread_name_prefix="decode")
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._scored: queue.Queue[ScoredBatch] = queue.Queue(maxsize=4)
        self._finished = threading.Event()
        self._orderly = False  # nothing is left undone: the writer may say so in the database
        self._failure: BaseException | None = None

    @property
    def progress(self) -> Progress:
        """What has been stored so far."""
        return self._writer.progress

    def state(self) -> WorkerState:
        """What the worker is doing now, for probes, scrapes and heartbeats. Any thread may ask."""
        return WorkerState(
            lag={partition: self._writer.cursors.lag(partition) for partition in self._intake.partitions},
            unpositioned=self._intake.unpositioned,
            standby=self._subscription.standby,
            trouble="; ".join(filter(None, (self._subscription.trouble, self._writer.retry.trouble))) or None,
            paused=self._intake.paused,
            in_flight_records=self._in_flight.records,
            in_flight_bytes=self._in_flight.bytes,
            batch_cap=self._serving.current.inference.cap,
            progress=self._writer.progress,
            model=self._serving.current.model_id,
            reference=self._serving.current.reference.name,
            refused=self._serving.refused,
        )

    def run(self, stop: threading.Event, *, drain_to: Sequence[Bounds] | None = None) -> Progress:
        """Work until `stop` is set or, with `drain_to`, until every partition's end there is passed.

        Returns after everything in flight is stored, or after the drain deadline: leaving work
        undone is safe, the cursor stands before it. Raises what ended a thread, and StuckThread where
        one shows no life: it cannot be ended, so the process must be.
        """
        threads = [
            threading.Thread(target=self._guarded, args=(name, turn, end), name=name, daemon=True)
            for name, turn, end in (
                ("poll", self._poll, _nothing),
                ("model", self._infer, _nothing),
                ("writer", self._write, self._writer.end),
            )
        ]
        for thread in threads:
            thread.start()
        while not (stop.wait(_BEAT_S) or self._failure or self._drained(drain_to)):
            self._check_threads()
        self._intake.stop_fetching()
        deadline = time.monotonic() + self._pace.drain_deadline_s
        while self._in_flight.records and not self._failure and time.monotonic() < deadline - _ENDING_S:
            self._finished.wait(_BEAT_S)
        self._orderly = not self._in_flight.records and self._failure is None
        self._finished.set()
        self._give_up.set()
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        self._pool.shutdown(wait=False, cancel_futures=True)
        if left := [thread.name for thread in threads if thread.is_alive()]:
            logger.warning("leaving %s at work: nothing is lost, the cursor stands before it", ", ".join(left))
        if not threads[0].is_alive():  # two threads must never touch it; a member that is gone is noticed anyway
            self._subscription.close()
        if self._failure is not None:
            raise self._failure
        return self._writer.progress

    def close(self) -> None:
        """End what the generations hold, as child processes."""
        for generation in (self._at_work, self._serving.current):
            generation.close()

    def _poll(self) -> None:
        self._intake.step(_BEAT_S)

    def _prepare(self, portion: Range) -> None:
        """Hand a range to the decode pool; ranges keep their order because their futures do."""
        generation = self._serving.current
        records = () if portion.isolated else portion.records
        tasks = [
            self._pool.submit(generation.preparation.prepare_all, records[first : first + _DECODE_CHUNK])
            for first in range(0, len(records), _DECODE_CHUNK)
        ]
        self._waiting.put(_Waiting(portion, generation, tasks, time.monotonic()))

    def _infer(self) -> None:
        gathered = self._gather()
        if not gathered:
            return
        prepared = [waiting.results() for waiting in gathered]
        ready = time.monotonic()
        generation = gathered[0].generation
        if generation is not self._at_work:  # ranges keep their order: nothing of the former one is left
            self._at_work.close()
            self._at_work = generation
        batch = generation.inference.score_ranges([waiting.portion for waiting in gathered], prepared)
        batch = replace(batch, prepare_s=ready - gathered[0].since, infer_s=time.monotonic() - ready)
        while not self._finished.is_set():
            try:
                self._scored.put(batch, timeout=_BEAT_S)
            except queue.Full:
                self._pulse.beat("model")  # waiting for a database that is tried again is no silence
                continue
            return

    def _gather(self) -> list[_Waiting]:
        """A batch leaves when full, when its oldest record has waited enough, or when nothing else is near.

        Or when what comes next is of another generation: a batch has one model.
        """
        gathered: list[_Waiting] = []
        size = 0
        timeout = _BEAT_S
        while size < self._pace.max_batch:
            try:
                waiting = self._held or self._waiting.get(timeout=timeout)
            except queue.Empty:
                break
            self._held = None
            if gathered and waiting.generation is not gathered[0].generation:
                self._held = waiting
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
        for chore in self._housekeeping:
            chore()

    def _guarded(self, name: str, turn: Callable[[], None], end: Callable[[], None]) -> None:
        """Repeat a thread's turn; whatever it cannot answer ends the worker, with the reason."""
        try:
            while not self._finished.is_set():
                self._pulse.beat(name)
                turn()
            if self._orderly:
                end()
        except BaseException as failure:
            if self._failure is None:
                self._failure = failure
            self._give_up.set()

    def _drained(self, targets: Sequence[Bounds] | None) -> bool:
        if targets is None:
            return False
        positions = self._writer.progress.positions
        return all(positions.get(bounds.partition, -1) >= bounds.end for bounds in targets)

    def _check_threads(self) -> None:
        if silent := self._pulse.silent():
            self._finished.set()
            self._give_up.set()
            logger.critical("a thread does not come back\n%s", stacks())
            raise StuckThread(
                "; ".join(map(str, silent)) + "; the process ends, so that its supervisor starts it anew:"
                " it goes on where the database stands"
            )


def _nothing() -> None:
    """A thread without last words."""
