"""A worker in a thread of this process, for as long as a context lasts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.assembly.working import run_worker
from pipeline.settings import Settings


@contextmanager
def running(settings: Settings, said: list[str]) -> Iterator[None]:
    """What it says goes to `said`; what ended it before its time is raised."""
    stop = threading.Event()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            run_worker(settings, start_at="earliest", drain=False, stop=stop, say=said.append)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        if failure:
            raise failure[0]
