"""A worker that is measured while it runs: its start, its first batch and its end do not count."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pipeline.assembly.working import run_worker
from pipeline.settings import Settings
from pipeline.stages.rows import Entry

PATIENCE_S = 600.0


def stored_per_s(settings: Settings) -> float:
    """Records a second of wall time, from first to last commit, of a worker that drains what waits in the log."""
    commits: list[tuple[float, int]] = []

    def note(entry: Entry) -> None:
        commits.append((time.perf_counter(), len(entry.batch.images) + len(entry.batch.dead)))

    run_worker(settings, start_at="earliest", drain=True, stop=threading.Event(), on_stored=note)
    first_s, last_s = commits[0][0], commits[-1][0]
    return sum(records for _, records in commits[1:]) / (last_s - first_s)


class RunningWorker:
    """The real worker on threads of this process, as a context manager."""

    def __init__(self, settings: Settings, on_stored: Callable[[Entry], None] = lambda entry: None) -> None:
        self._settings = settings
        self._on_stored = on_stored
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._stored = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="worker")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def cpu_s(self, produce: Callable[[], object], records: int) -> float:
        """CPU seconds of this process until `records` more are stored, without what producing them took."""
        wanted = self._stored + records
        process, here = time.process_time(), time.thread_time()
        produce()
        with self._progress:
            self._progress.wait_for(lambda: self._stored >= wanted or self._failure is not None, PATIENCE_S)
        spent = (time.process_time() - process) - (time.thread_time() - here)
        if self._stored < wanted:
            raise self._failure or TimeoutError(f"{self._stored} of {wanted} records are stored")
        return spent

    def _run(self) -> None:
        try:
            run_worker(self._settings, start_at="earliest", drain=False, stop=self._stop, on_stored=self._count)
        except BaseException as failure:
            with self._progress:
                self._failure = failure
                self._progress.notify_all()

    def _count(self, entry: Entry) -> None:
        self._on_stored(entry)
        with self._progress:
            self._stored += len(entry.batch.images) + len(entry.batch.dead)
            self._progress.notify_all()
