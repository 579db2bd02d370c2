"""Which processes run: each beats into a row of its own, and takes it away when it ends in order."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from pipeline.storage.schema import ProcessRow


@dataclass(frozen=True, slots=True)
class Process:
    """What a process said about itself, and when."""

    name: str  # host:pid
    role: str
    deployment: str | None
    version: str
    started_at: datetime
    beat_at: datetime
    state: Mapping[str, Any]  # JSON


def beat(conn: Connection, process: Process) -> None:
    """Write or renew the process's row."""
    values = asdict(process)
    renewed = conn.execute(update(ProcessRow).where(ProcessRow.name == process.name).values(**values))
    if renewed.rowcount == 0:
        conn.execute(insert(ProcessRow).values(**values))


def remove(conn: Connection, name: str) -> None:
    """An orderly end."""
    conn.execute(delete(ProcessRow).where(ProcessRow.name == name))


def forget_silent(conn: Connection, *, before: datetime) -> int:
    """Delete the rows of processes that last beat before a time; return how many."""
    return conn.execute(delete(ProcessRow).where(ProcessRow.beat_at < before)).rowcount


def list_processes(conn: Connection) -> list[Process]:
    """All that run or were killed, by role and start."""
    rows = conn.execute(select(ProcessRow.__table__).order_by(ProcessRow.role, ProcessRow.started_at))
    return [Process(**row._mapping) for row in rows]


def clock_of(conn: Connection) -> datetime | None:
    """The time on the database's own clock; None for SQLite, which has none of its own."""
    return None if conn.dialect.name == "sqlite" else conn.scalar(select(func.clock_timestamp()))
