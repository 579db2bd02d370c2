"""What a worker wrote for the monitor, recorded in the database itself, and played to another one."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, insert, select, text, update

from pipeline.storage.rollup_parts import NewPart, insert_parts
from pipeline.storage.schema import DeploymentRow, ReferenceRow, SegmentRow, StreamRow, from_microseconds

_TRIGGERS = (
    "CREATE TABLE taped_move (id INTEGER PRIMARY KEY, newest INTEGER)",
    "CREATE TABLE taped_part (id INTEGER PRIMARY KEY, move INTEGER, deployment_id INTEGER, reference_id INTEGER,"
    " segment_id INTEGER, tick INTEGER, content BLOB)",
    "CREATE TRIGGER tape_move AFTER UPDATE OF newest_event_time ON stream"
    " BEGIN INSERT INTO taped_move (newest) VALUES (NEW.newest_event_time); END",
    "CREATE TRIGGER tape_part AFTER INSERT ON roll_up_part BEGIN INSERT INTO taped_part"
    " (move, deployment_id, reference_id, segment_id, tick, content) SELECT max(id), NEW.deployment_id,"
    " NEW.reference_id, NEW.segment_id, NEW.tick, NEW.content FROM taped_move; END",
)


@dataclass(frozen=True)
class Write:
    """What one transaction of a worker wrote for the monitor."""

    newest: datetime  # event time that its partition has come to
    parts: tuple[NewPart, ...]


def record(engine: Engine) -> None:
    """From now on the database (SQLite) keeps what workers write for the monitor."""
    with engine.begin() as conn:
        for statement in _TRIGGERS:
            conn.execute(text(statement))


def recorded(engine: Engine) -> list[Write]:
    """All of it, in order."""
    with engine.connect() as conn:
        return list(_writes(conn))


def _writes(conn: Connection) -> Iterator[Write]:
    for move, newest in conn.execute(text("SELECT id, newest FROM taped_move ORDER BY id")).all():
        parts = conn.execute(
            text(
                "SELECT deployment_id, reference_id, segment_id, tick, content FROM taped_part"
                " WHERE move = :move ORDER BY id"
            ),
            {"move": move},
        )
        found = tuple(NewPart(*row) for row in parts)
        if newest is not None and found:
            yield Write(from_microseconds(newest), found)


def copy_beginning(source: Engine, target: Engine) -> None:
    """Reference, deployment, segments and a stream that nothing was read of yet."""
    with source.connect() as conn, target.begin() as to:
        for table in (ReferenceRow, DeploymentRow, SegmentRow, StreamRow):
            rows = [dict(row) for row in conn.execute(select(table.__table__)).mappings()]
            to.execute(insert(table), rows)
        to.execute(update(StreamRow).values(newest_event_time=None))


def write(engine: Engine, one: Write, *, now: datetime) -> None:
    """One transaction, as a worker makes it."""
    with engine.begin() as conn:
        conn.execute(update(StreamRow).values(newest_event_time=one.newest, updated_at=now))
        insert_parts(conn, one.parts)
