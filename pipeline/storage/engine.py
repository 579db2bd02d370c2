"""Open a database: SQLite by default, PostgreSQL in production; refuse what this release cannot read."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError, OperationalError

from pipeline.errors import EnvironmentFault, OodwatchError, UsageError
from pipeline.storage.postgres import IDLE_IN_TRANSACTION_S, cure, make_postgres_engine, passes

#: The newest revision under `migrations/versions`; a test holds it against Alembic's own answer.
HEAD_REVISION = "0014"

_BUSY_TIMEOUT_S = 30

#: What SQLite says (patterns), and what a person can do.
_SQLITE_CURES = {
    "disk is full|No space left": "free some space, then run the same command again; nothing was half-written",
    "disk I/O error": "the disk is full or failing: free some space, then run the same command again",
    "not a database": "name another file with --database",
    "readonly|unable to open": "check that the folder exists and may be written",
    "locked": f"for {_BUSY_TIMEOUT_S} s another process has held a transaction open, end it",
}
_EXAMPLES = "write sqlite:///path/to/file.db or postgresql+psycopg://user@host/name"


def open_database(url: str, *, create: bool = True) -> Engine:
    """An engine on a database whose tables are of this release.

    An empty SQLite file is migrated on first use, and made where there is none unless `create` is off;
    an empty PostgreSQL is refused, naming `oodwatch migrate`.

    Raises:
        UsageError: the URL, or the database's revision, is not one that this release can use.
        EnvironmentFault: the database does not answer, or its disk is full.
    """
    file = sqlite_file(url)
    if not create and file is not None and not file.exists():
        raise UsageError(
            f"there is no database at {file}; name another with --database, or begin with `oodwatch calibrate`"
        )
    engine = make_engine(url)
    try:
        with translated_errors(engine.url):
            _check_revision(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def make_engine(url: str, *, idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S) -> Engine:
    """An engine that has not connected yet. Every transaction on SQLite begins IMMEDIATE, see `reading`."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite_engine(parsed)
        if parsed.get_backend_name() == "postgresql":
            return make_postgres_engine(parsed, idle_in_transaction_s=idle_in_transaction_s)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        # The parser's own words are left out: they repeat the whole URL, with its password.
        raise UsageError(f"database {shown(url)!r} is no SQLAlchemy URL that can be used; {_EXAMPLES}") from error
    raise UsageError(f"database {shown(url)!r} is of another engine; {_EXAMPLES}")


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read: on SQLite they then never wait for a writer."""
    return engine.execution_options(sqlite_begin="BEGIN", postgresql_readonly=True)


def current_revision(engine: Engine) -> str | None:
    """The revision of the tables; None for an empty database; '' for tables that are not ours."""
    with reading(engine).connect() as conn:
        tables = inspect(conn).get_table_names()
        if "alembic_version" in tables:
            revision = conn.scalar(text("SELECT version_num FROM alembic_version"))
            return str(revision) if revision is not None else ""
        return "" if tables else None


def stored_revision(conn: Connection) -> str:
    """The revision that the tables have now, in a database that has been opened before."""
    return str(conn.scalar(text("SELECT version_num FROM alembic_version")) or "")


def revision_problem(url: URL, revision: str | None) -> str | None:
    """Why this release cannot work with tables of that revision, and the cure; None where it can."""
    return None if revision == HEAD_REVISION else _revision_message(url, revision)


def sqlite_file(url: str) -> Path | None:
    """Where a SQLite database lies or would lie; None for other engines, and for what is no URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None
    named = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)).absolute() if named else None


def file_identity(url: URL) -> tuple[int, int] | None:
    """What tells a SQLite file from another under its name: (0, 0) for none at all; None for other engines."""
    file = sqlite_file(url.render_as_string(hide_password=False))
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


@contextmanager
def translated_errors(url: URL) -> Iterator[None]:
    """Turn a driver's failure into one line: which database, what it said, what to do."""
    try:
        yield
    except DBAPIError as error:
        raise translated(error, url) from error


def translated(error: DBAPIError, url: URL) -> OodwatchError:
    """EnvironmentFault where trying again may help, UsageError where a person has to mend something first."""
    waits = is_transient(error) or not _is_from_postgres(error)
    return (EnvironmentFault if waits else UsageError)(describe(error, url))


def describe(error: DBAPIError, url: URL) -> str:
    """What the database said, where, and the cure."""
    said = str(error.orig).strip().splitlines()[0]
    where = shown(url)
    known = (remedy for pattern, remedy in _SQLITE_CURES.items() if re.search(pattern, said))
    remedy = cure(error) if _is_from_postgres(error) else next(known, None)
    return "; ".join(filter(None, (f"{where}: {said}", remedy)))


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed later: a lost connection, a lock, a full disk."""
    if isinstance(error, DBAPIError) and _is_from_postgres(error):
        return passes(error)
    if isinstance(error, OperationalError):
        return "no such table" not in str(error.orig) and "no such column" not in str(error.orig)
    return isinstance(error, DBAPIError) and (error.connection_invalidated or not isinstance(error, DatabaseError))


def shown(url: URL | str) -> str:
    """A URL without its secrets: no password, and of the query only where the servers are."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return re.sub(r":(?!//).*@", ":***@", str(url))
    public = {name: value for name, value in parsed.query.items() if name in ("host", "port")}
    return parsed.set(query=public).render_as_string(hide_password=True)


def _check_revision(engine: Engine) -> None:
    revision = current_revision(engine)
    if revision is None and engine.dialect.name == "sqlite":
        from pipeline.storage.migrations.run import upgrade

        upgrade(engine)
    elif revision != HEAD_REVISION:
        raise UsageError(_revision_message(engine.url, revision))


def _is_from_postgres(error: DBAPIError) -> bool:
    return hasattr(error.orig, "sqlstate")


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
    where = shown(url)
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
