"""Many rows at once: binary COPY on PostgreSQL, statements of many rows each on SQLite."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import JSON, Connection, Dialect

from pipeline.storage.postgres import copy_rows
from pipeline.storage.schema import Table

_LARGEST_PORTION = 256  # SQLite takes 32,766 values a statement


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
        first = 0
        for size in _portions(len(rows)):
            values = tuple(chain.from_iterable(rows[first : first + size]))
            conn.exec_driver_sql(_insert_statement(table, columns, size), values)
            first += size


@lru_cache
def _types(table: type[Table], columns: tuple[str, ...], dialect: Dialect) -> tuple[str, ...]:
    """Names of the columns' types; JSON comes as text, whose binary form is the same."""
    kinds = [table.__table__.c[name].type for name in columns]
    return tuple("text" if isinstance(kind, JSON) else kind.compile(dialect).lower() for kind in kinds)


def _portions(rows: int) -> Iterator[int]:
    """Powers of two that add up: a quarter less CPU than one row a statement, and few statements to prepare."""
    while rows:
        size = min(_LARGEST_PORTION, 1 << (rows.bit_length() - 1))
        yield size
        rows -= size


@lru_cache
def _insert_statement(table: type[Table], columns: tuple[str, ...], rows: int) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    marks = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table.__tablename__} ({names}) VALUES {', '.join([marks] * rows)}"
