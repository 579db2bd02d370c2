"""CPU time: on a machine that others use too, the only time worth comparing."""

import time
from collections.abc import Callable


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds, user and system, that this process spends on a piece of work."""
    began = time.process_time()
    work()
    return time.process_time() - began
