"""Who monitors a deployment. Saves work; that two leaders do no harm is the business of `monitoring.claim`."""

import contextlib
from datetime import timedelta
from typing import Protocol

from sqlalchemy import Connection, Engine, delete, or_, select, text
from sqlalchemy.exc import DBAPIError

from pipeline.storage.conflicts import insert_or
from pipeline.storage.engine import reading
from pipeline.storage.postgres import make_session_engine
from pipeline.storage.schema import LeaseRow, from_microseconds

_LOCK_CLASS = int.from_bytes(b"oodw")
_NOW = text("SELECT CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)")  # microseconds

#: A leader that has been silent for so long, frozen perhaps, leads no more.
SILENCE = timedelta(seconds=60)


class Leader(Protocol):
    """Answers who leads; raises DBAPIError where the database does not answer."""

    def leads(self, deployment_id: int) -> bool:
        """Whether this process leads a deployment now; it takes the lead where nobody has it."""
        ...

    def resign(self) -> None:
        """Let others lead, at once."""
        ...


def make_leader(engine: Engine, holder: str) -> Leader:
    """Advisory locks on PostgreSQL, leases on SQLite."""
    return Leases(engine, holder) if engine.dialect.name == "sqlite" else AdvisoryLocks(engine)


class AdvisoryLocks:
    """PostgreSQL: session locks on a connection of their own, which the server frees when the process dies.

    The server also ends the session of a frozen process (`idle_session_timeout`, from PostgreSQL 14 on).
    A pooler in transaction mode must not stand between: the lock would stay with the pooler's connection.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = make_session_engine(engine.url)
        self._conn: Connection | None = None
        self._held: set[int] = set()

    def leads(self, deployment_id: int) -> bool:
        """A lock held before is held as long as the session lives."""
        try:
            conn = self._session()
            if deployment_id in self._held:
                conn.exec_driver_sql("SELECT 1")
                return True
            taken = conn.scalar(
                text("SELECT pg_try_advisory_lock(:class, :id)"), {"class": _LOCK_CLASS, "id": deployment_id}
            )
        except DBAPIError:
            self._end()
            raise
        if taken:
            self._held.add(deployment_id)
        return bool(taken)

    def resign(self) -> None:
        """End the session, and with it its locks."""
        self._end()

    def _session(self) -> Connection:
        if self._conn is None:
            self._conn = self._engine.connect()
            if int(self._conn.scalar(text("SHOW server_version_num")) or 0) >= 140_000:
                self._conn.exec_driver_sql(f"SET idle_session_timeout = '{SILENCE.total_seconds():.0f}s'")
        return self._conn

    def _end(self) -> None:
        conn, self._conn = self._conn, None
        self._held.clear()
        if conn is not None:
            conn.invalidate()
            conn.close()


class Leases:
    """SQLite: a row with an expiry on the database's clock, renewed when half of it has passed."""

    def __init__(self, engine: Engine, holder: str, lasting: timedelta = SILENCE) -> None:
        self._engine = engine
        self._holder = holder
        self._lasting = lasting

    def leads(self, deployment_id: int) -> bool:
        """A lease that ends later than one taken now would is no lease: the clock has stepped back."""
        name = f"monitor:{deployment_id}"
        with reading(self._engine).connect() as conn:
            now = from_microseconds(int(conn.scalar(_NOW)))
            row = conn.execute(select(LeaseRow.holder, LeaseRow.expires_at).where(LeaseRow.name == name)).one_or_none()
        valid = row is not None and now < row.expires_at <= now + self._lasting
        if row is not None and valid and row.holder != self._holder:
            return False
        if row is not None and valid and row.expires_at > now + self._lasting / 2:
            return True
        with self._engine.begin() as conn:
            now = from_microseconds(int(conn.scalar(_NOW)))
            lease = {"holder": self._holder, "expires_at": now + self._lasting}
            free = or_(
                LeaseRow.holder == self._holder,
                LeaseRow.expires_at <= now,
                LeaseRow.expires_at > now + self._lasting,
            )
            taken = conn.execute(
                insert_or(conn, LeaseRow)
                .values(name=name, **lease)
                .on_conflict_do_update(index_elements=[LeaseRow.name], set_=lease, where=free)
            )
            return taken.rowcount == 1

    def resign(self) -> None:
        """Take the rows away; where that fails they expire."""
        with contextlib.suppress(DBAPIError), self._engine.begin() as conn:
            conn.execute(delete(LeaseRow).where(LeaseRow.holder == self._holder))
