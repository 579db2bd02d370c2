"""CPU time: on a machine that others use too, the only time worth comparing."""

import time
from collections.abc import Callable


def thread_cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds, user and system, of a piece of work that runs on the calling thread alone."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def process_cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of a piece of work that runs on several threads of this process, and of all else that runs there."""
    began = time.process_time()
    work()
    return time.process_time() - began
