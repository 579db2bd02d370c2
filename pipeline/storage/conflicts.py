"""INSERT ... ON CONFLICT, which both engines know and SQLAlchemy spells for each of them."""

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.storage.schema import Table


def insert_or(conn: Connection, table: type[Table]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can be told what to do where the row exists; on PostgreSQL it waits for whoever inserts it."""
    return sqlite.insert(table) if conn.dialect.name == "sqlite" else postgresql.insert(table)
