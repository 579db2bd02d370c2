"""Open a database: SQLite by default, PostgreSQL in production; refuse what this release cannot read."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError, OperationalError

from pipeline.errors import EnvironmentFault, UsageError

#: The newest revision under `migrations/versions`; a test holds it against Alembic's own answer.
HEAD_REVISION = "0003"

_BUSY_TIMEOUT_S = 30


def open_database(url: str) -> Engine:
    """An engine on a database whose tables are of this release.

    An empty SQLite file is migrated on first use; an empty PostgreSQL is refused, naming
    `oodwatch migrate`.

    Raises:
        UsageError: the URL, or the database's revision, is not one that this release can use.
        EnvironmentFault: the database does not answer, or its disk is full.
    """
    engine = make_engine(url)
    with translated_errors(engine.url):
        revision = current_revision(engine)
        if revision is None and engine.dialect.name == "sqlite":
            from pipeline.storage.migrations.run import upgrade

            upgrade(engine)
        elif revision != HEAD_REVISION:
            raise UsageError(_revision_message(engine.url, revision))
    return engine


def make_engine(url: str) -> Engine:
    """An engine that has not connected yet. Every transaction on SQLite begins IMMEDIATE, see `reading`."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite_engine(parsed)
        return create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(
            f"database {url!r} is no SQLAlchemy URL ({error}); write sqlite:///path/to/file.db"
            " or postgresql+psycopg://user@host/name"
        ) from error


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read: on SQLite they then never wait for a writer."""
    return engine.execution_options(sqlite_begin="BEGIN")


def current_revision(engine: Engine) -> str | None:
    """The revision of the tables; None for an empty database; '' for tables that are not ours."""
    with reading(engine).connect() as conn:
        tables = inspect(conn).get_table_names()
        if "alembic_version" in tables:
            revision = conn.scalar(text("SELECT version_num FROM alembic_version"))
            return str(revision) if revision is not None else ""
        return "" if tables else None


@contextmanager
def translated_errors(url: URL) -> Iterator[None]:
    """Turn a driver's failure into one line: which database, what it said, what to do."""
    try:
        yield
    except DBAPIError as error:
        raise EnvironmentFault(describe(error, url)) from error


def describe(error: DBAPIError, url: URL) -> str:
    """What the database said, where, and the cure."""
    said = str(error.orig).strip().splitlines()[0]
    where = url.render_as_string(hide_password=True)
    if "disk is full" in said or "No space left" in said:
        return f"{where}: {said}; free some space, then run the same command again; nothing was half-written"
    if "not a database" in said:
        return f"{where}: {said}; name another file with --database"
    if "readonly" in said or "unable to open" in said:
        return f"{where}: {said}; check that the folder exists and may be written"
    if "locked" in said:
        return f"{where}: {said} for {_BUSY_TIMEOUT_S} s; another process holds a transaction open, end it"
    return f"{where}: {said}"


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed later: a lost connection, a lock, a full disk."""
    if isinstance(error, OperationalError):
        return "no such table" not in str(error.orig) and "no such column" not in str(error.orig)
    return isinstance(error, DBAPIError) and (error.connection_invalidated or not isinstance(error, DatabaseError))


def _sqlite_engine(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(f"{url.database}: {error.strerror}; name another place with --database") from error
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver's implicit BEGIN would leave reads before the first write outside the transaction.
    connection.isolation_level = None
    cursor: sqlite3.Cursor = connection.cursor()
    # FULL: a commit that was answered survives a power cut, as the cursor's promise requires.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=FAST"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(conn: Connection) -> None:
    # IMMEDIATE takes the write lock first: a compare-and-set that read an old snapshot cannot exist.
    conn.exec_driver_sql(conn.get_execution_options().get("sqlite_begin", "BEGIN IMMEDIATE"))


def _revision_message(url: URL, revision: str | None) -> str:
    where = url.render_as_string(hide_password=True)
    if revision is None:
        return f"{where} is empty; run `oodwatch migrate --database {where}` once"
    if revision == "":
        return f"{where} holds tables that are not oodwatch's; name another database with --database"
    if revision > HEAD_REVISION:
        return (
            f"{where} is of revision {revision}, this release knows up to {HEAD_REVISION};"
            " use the newer oodwatch that made it"
        )
    return f"{where} is of revision {revision}, this release needs {HEAD_REVISION}; run `oodwatch migrate`"
