"""CPU time: on a machine that others use too, the only time worth comparing."""

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, text

from tests.services.availability import unavailable


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


def database_cpu_s(engine: Engine, work: Callable[[], object]) -> float:
    """CPU seconds of work on the calling thread and of the server's process behind the engine's one connection."""
    backend = _backend(engine)
    before = _cpu_of_process_s(backend)
    spent = thread_cpu_s(work)
    if _backend(engine) != backend:
        raise RuntimeError("the engine has changed its connection: another server process did some of the work")
    return spent + _cpu_of_process_s(backend) - before


def _backend(engine: Engine) -> int | None:
    """The server's process; None where the database lies in this one."""
    if engine.dialect.name != "postgresql":
        return None
    with engine.connect() as conn:
        return int(conn.scalar(text("SELECT pg_backend_pid()")) or 0)


def _cpu_of_process_s(pid: int | None) -> float:
    if pid is None:
        return 0.0
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except FileNotFoundError:
        unavailable("the CPU time of a PostgreSQL server can be read on its own Linux machine only")
