"""Many rows at once: COPY on PostgreSQL, one executemany of tuples on SQLite."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from pipeline.storage.schema import Table


def insert_many(
    conn: Connection, table: type[Table], columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows given as the database's own values (times in microseconds, booleans 0 or 1).

    SQLAlchemy's types are passed by: that is most of the time of a bulk insert. The caller owns
    the transaction.
    """
    if not rows:
        return
    if conn.dialect.name == "postgresql":
        _copy(conn, table, columns, rows)
    else:
        conn.exec_driver_sql(_insert_statement(table, columns), list(rows))


def _copy(conn: Connection, table: type[Table], columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    names = ", ".join(f'"{name}"' for name in columns)
    cursor: Any = conn.connection.cursor()
    with cursor, cursor.copy(f"COPY {table.__tablename__} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


@lru_cache
def _insert_statement(table: type[Table], columns: tuple[str, ...]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table.__tablename__} ({names}) VALUES ({marks})"
