"""The databases, with what can happen to them."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import Engine, create_engine, text

from pipeline.storage.migrations.run import upgrade
from tests.services.postgres import Postgres, PostgresServer

_CURSOR_LOCK = "SELECT * FROM stream FOR UPDATE"


class SqliteDatabase:
    """A file."""

    kind = "sqlite"

    def __init__(self, file: Path) -> None:
        self.file = file
        self.url = f"sqlite:///{file}"

    def engine(self) -> Engine:
        """For the oracle: never waits for a writer."""
        return create_engine(self.url)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Somebody else's write transaction that does not end."""
        with contextlib.closing(sqlite3.connect(self.file, isolation_level=None, timeout=60)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")


class PostgresDatabase:
    """A database of its own; the server may be hurt where it is our own."""

    kind = "postgres"

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self.name = server.create_database()
        self.url = server.url(self.name)
        upgrade(engine := self.engine())
        engine.dispose()

    @property
    def server(self) -> PostgresServer:
        """The server, which is our own."""
        assert isinstance(self._server, PostgresServer)
        return self._server

    def engine(self) -> Engine:
        """For the oracle."""
        return create_engine(self.url, pool_pre_ping=True, connect_args={"connect_timeout": 5})

    def crash(self) -> None:
        """What an immediate shutdown is: no checkpoint, every connection cut; then the log is replayed."""
        self.server.restart("immediate")

    def revive(self) -> None:
        """Start it again where it gave up."""
        try:
            self.server.execute("SELECT 1")
        except psycopg.OperationalError:
            self.server.stop("immediate")
            self.server.start()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Somebody else's transaction that holds every cursor."""
        plain = self.url.replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=False) as connection:
            connection.execute(_CURSOR_LOCK)
            yield
            with contextlib.suppress(psycopg.Error):  # the server may have ended it meanwhile
                connection.rollback()


Database = SqliteDatabase | PostgresDatabase


def drop_keys(engine: Engine) -> None:
    """Without unique keys a duplicate is a row that the oracle counts, not an error that hides it."""
    with engine.begin() as conn:
        if engine.dialect.name == "postgresql":
            found = conn.execute(
                text(
                    "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype IN ('p', 'u')"
                    " AND conparentid = 0 AND conrelid::regclass::text IN ('score', 'dead_letter', 'sample')"
                )
            )
            for table, key in found.all():
                conn.execute(text(f'ALTER TABLE {table} DROP CONSTRAINT "{key}"'))
            return
        for table in ("score", "dead_letter", "sample"):
            definition = conn.scalar(text("SELECT sql FROM sqlite_master WHERE name = :table"), {"table": table})
            columns = [row[1] for row in conn.execute(text(f"PRAGMA table_info({table})"))]
            names = ", ".join(f'"{column}"' for column in columns if column != "id" or table != "sample")
            key = "id INTEGER PRIMARY KEY, " if table == "sample" else ""
            assert definition is not None
            conn.execute(text(f"DROP TABLE {table}"))
            conn.execute(text(f"CREATE TABLE {table} ({key}{names})"))
