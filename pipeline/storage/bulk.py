"""Many rows at once: binary COPY on PostgreSQL, one executemany of tuples on SQLite."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, Connection, Dialect

from pipeline.storage.postgres import copy_rows
from pipeline.storage.schema import Table


def insert_many(
    conn: Connection, table: type[Table], columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows given as the database's own values (times in microseconds, booleans 0 or 1, JSON as text).

    SQLAlchemy's types are passed by: that is most of the time of a bulk insert. The caller owns
    the transaction.
    """
    if not rows:
        return
    if conn.dialect.name == "postgresql":
        copy_rows(conn, table.__tablename__, columns, _types(table, columns, conn.dialect), rows)
    else:
        conn.exec_driver_sql(_insert_statement(table, columns), list(rows))


@lru_cache
def _types(table: type[Table], columns: tuple[str, ...], dialect: Dialect) -> tuple[str, ...]:
    """Names of the columns' types; JSON comes as text, whose binary form is the same."""
    kinds = [table.__table__.c[name].type for name in columns]
    return tuple("text" if isinstance(kind, JSON) else kind.compile(dialect).lower() for kind in kinds)


@lru_cache
def _insert_statement(table: type[Table], columns: tuple[str, ...]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table.__tablename__} ({names}) VALUES ({marks})"
