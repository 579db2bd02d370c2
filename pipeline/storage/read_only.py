"""A database for pages: nothing is ever written, nothing is waited for long."""

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL

from pipeline.storage.engine import make_engine, reading, sqlite_file

_BUSY_TIMEOUT_S = 2
_STATEMENT_TIMEOUT_S = 5


def open_read_only(url: str) -> Engine:
    """An engine that has not connected yet, for transactions that read.

    SQLite is opened read-only: a file that is missing is not made, the journal stays as it is. On PostgreSQL
    transactions are read-only and statements end after 5 s; that a role may not write is the server's to know, by
    `oodwatch_reader`. Raises UsageError for what is no URL.
    """
    engine = make_engine(url)
    file = sqlite_file(url)
    if file is not None:
        engine.dispose()
        return _sqlite(make_url(url), f"file:{file}?mode=ro")
    if engine.dialect.name == "postgresql":
        event.listen(engine, "begin", _limit)
    return reading(engine)


def _sqlite(url: URL, file: str) -> Engine:
    import sqlite3

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(file, uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
        connection.isolation_level = None  # as everywhere: transactions begin where SQLAlchemy says
        connection.execute("PRAGMA query_only=ON")
        return connection

    engine = create_engine(url, creator=connect)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(conn: Connection) -> None:
    conn.exec_driver_sql("BEGIN")


def _limit(conn: Connection) -> Any:
    conn.exec_driver_sql(f"SET LOCAL statement_timeout = {_STATEMENT_TIMEOUT_S * 1000}")
