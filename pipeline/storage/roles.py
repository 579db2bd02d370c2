"""Roles on PostgreSQL: who may do what. Granted to people's and processes' own logins by an operator.

The owner (whoever runs `oodwatch migrate`) also calibrates, registers models, forgets and drops. A package may hold
code, which workers run: an operator promotes what the owner has registered, and registers nothing. Worker and
monitor own nothing: days of `score` are made and dropped by two functions that run with the owner's rights. New
days need no grant of their own: PostgreSQL checks the table that a statement names, and all of them name `score`.
"""

from sqlalchemy import Connection, text

from pipeline.errors import UsageError
from pipeline.storage.sample_pages import PICTURES
from pipeline.storage.tables import METADATA

READER = "oodwatch_reader"
BLIND = "oodwatch_reader_without_images"
WRITER = "oodwatch_writer"
OPERATOR = "oodwatch_operator"

_COMMENTS = {
    READER: "oodwatch: sees everything, changes nothing; the dashboard and exports",
    BLIND: "oodwatch: a reader who sees no picture of an image",
    WRITER: "oodwatch: what a worker and a monitor do",
    OPERATOR: "oodwatch: a reader who may also handle incidents and accept baselines",
}

# DELETE and UPDATE on the tables that retention thins out: it locks the rows that it is about to delete.
_WRITES = {
    "deployment": "INSERT, UPDATE",
    "segment": "INSERT",
    "stream": "INSERT, UPDATE",
    "stream_gap": "INSERT",
    "score": "INSERT",
    "dead_letter": "INSERT, UPDATE, DELETE",
    "roll_up_part": "INSERT, UPDATE, DELETE",
    "sample": "INSERT, UPDATE, DELETE",
    "explanation": "INSERT, UPDATE, DELETE",
    "process": "INSERT, UPDATE, DELETE",
    "tick": "INSERT, DELETE",
    "tick_level": "INSERT, UPDATE",
    "monitor": "INSERT, UPDATE",
    "detector_state": "INSERT, UPDATE",
    "detector_checkpoint": "INSERT, DELETE",
    "verdict": "INSERT, UPDATE",
    "transition": "INSERT",
    "alerting": "INSERT, UPDATE",
    "incident": "INSERT, UPDATE",
    "alert": "INSERT, UPDATE",
    "incident_event": "INSERT",
    "outbox": "INSERT, UPDATE, DELETE",
    "label": "UPDATE, DELETE",
    "review": "UPDATE, DELETE",
    "model_event": "INSERT",
}
#: What an operator writes: decisions of people, and drills. Of a baseline only that it was revoked can change; of an
#: incident how it is handled, and what is told of that.
_DECIDES = {
    "baseline": "INSERT, UPDATE (revoked_at, revoked_by)",
    "alerting": "UPDATE",
    "incident": "INSERT, UPDATE (handling, handled_until, handled_by, exception, notice_at)",
    "incident_event": "INSERT",
    "outbox": "INSERT, UPDATE (given_up_at, last_error)",
    "mark": "INSERT",
    "label": "INSERT, UPDATE",
    "review": "INSERT",
    "model_event": "INSERT",
}


def grant_roles(conn: Connection) -> None:
    """Make the four group roles where they are missing and give them exactly their rights on these tables.

    Run it again after each migration. To make a role takes CREATEROLE; to grant, ownership of the tables.
    Raises UsageError on SQLite.
    """
    if conn.dialect.name != "postgresql":
        raise UsageError("SQLite has no roles: who may write the file may do everything; leave out --roles")
    tables = ", ".join(f'"{name}"' for name in (*METADATA.tables, "alembic_version"))
    schema = conn.scalar(text("SELECT quote_ident(current_schema())"))
    for role, comment in _COMMENTS.items():
        if not conn.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = :role"), {"role": role}):
            _run(conn, f"CREATE ROLE {role} NOLOGIN", f"COMMENT ON ROLE {role} IS '{comment}'")
        _run(conn, f"REVOKE ALL ON {tables} FROM {role}", f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        if role != BLIND:
            _run(conn, f"GRANT SELECT ON {tables} TO {role}")
    for name, table in METADATA.tables.items():
        seen = ", ".join(f'"{column.name}"' for column in table.columns if column.name != PICTURES.get(name))
        _run(conn, f'GRANT SELECT ({seen}) ON "{name}" TO {BLIND}')
    _run(conn, f"GRANT SELECT ON alembic_version TO {BLIND}")
    for name in _WRITES.keys() & METADATA.tables.keys():
        _run(conn, f'GRANT {_WRITES[name]} ON "{name}" TO {WRITER}')
    for name, rights in _DECIDES.items():
        _run(conn, f'GRANT {rights} ON "{name}" TO {OPERATOR}')
    _run(conn, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {WRITER}, {OPERATOR}")
    _run(conn, f"GRANT EXECUTE ON FUNCTION create_score_days, drop_score_day TO {WRITER}")


def _run(conn: Connection, *statements: str) -> None:
    for statement in statements:
        conn.exec_driver_sql(statement)
