"""Late ground truth: a file of ids and labels meets the scored images in one pass over them, however many there are.

An index on `score.id` would cost every insert of every worker; labels come once in a while. So the ids go into a
temporary table, and the scores of the window are read once.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    SmallInteger,
    String,
    Table,
    func,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.storage.conflicts import insert_or
from pipeline.storage.label_schema import LabelRow
from pipeline.storage.schema import from_microseconds, to_microseconds

_TEMPORARY = MetaData()
_GIVEN = Table(
    "given_label",
    _TEMPORARY,
    Column("id", String, primary_key=True),
    Column("label", String, nullable=False),
    prefixes=["TEMPORARY"],
)
_MET = Table(
    "met_label",
    _TEMPORARY,
    Column("stream_id", BigInteger, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("deployment_id", BigInteger),
    Column("event_time", BigInteger),
    Column("segment_id", BigInteger),
    Column("reference_id", BigInteger),
    Column("class_index", SmallInteger),
    Column("is_ood", SmallInteger),
    Column("id", String, index=True),
    Column("label", String),
    prefixes=["TEMPORARY"],
)


class Met(NamedTuple):
    """A scored image and what it truly was; times in microseconds, booleans 0 or 1."""

    stream_id: int
    offset: int
    deployment_id: int
    event_time: int
    segment_id: int
    reference_id: int
    class_index: int
    is_ood: int
    id: str
    label: str


def begin_labels(conn: Connection) -> None:
    """Make the temporary tables of this connection."""
    _TEMPORARY.create_all(conn, checkfirst=False)


def end_labels(conn: Connection) -> None:
    """Drop them: a pool may hand the connection to somebody else."""
    _TEMPORARY.drop_all(conn, checkfirst=False)


def give_labels(conn: Connection, pairs: Sequence[tuple[str, str]]) -> None:
    """Add (id, label) pairs; of one id the last one counts."""
    if not pairs:
        return
    insert = sqlite.insert(_GIVEN) if conn.dialect.name == "sqlite" else postgresql.insert(_GIVEN)
    upsert = insert.on_conflict_do_update(index_elements=[_GIVEN.c.id], set_={"label": insert.excluded.label})
    conn.execute(upsert, [{"id": key, "label": label} for key, label in dict(pairs).items()])


def meet_scores(conn: Connection, *, deployment_id: int | None, start: datetime | None, end: datetime | None) -> int:
    """Find the scored images of the given ids with start <= event time < end, in one pass; return how many."""
    conditions = ["given_label.id = score.id", "score.drill = 0"]
    values: dict[str, int] = {}
    if deployment_id is not None:
        conditions.append("stream.deployment_id = :deployment")
        values["deployment"] = deployment_id
    for name, operator, at in (("start", ">=", start), ("end", "<", end)):
        if at is not None:
            conditions.append(f"score.event_time {operator} :{name}")
            values[name] = to_microseconds(at)
    # CROSS JOIN keeps SQLite from reading all scores once for each id; PostgreSQL hashes the ids.
    found = conn.execute(
        text(
            'INSERT INTO met_label SELECT score.stream_id, score."offset", stream.deployment_id, score.event_time,'
            " score.segment_id, score.reference_id, score.class_index, score.is_ood, score.id, given_label.label"
            " FROM score CROSS JOIN given_label CROSS JOIN stream"
            f" WHERE stream.id = score.stream_id AND {' AND '.join(conditions)}"
        ),
        values,
    )
    return found.rowcount


def met_labels(conn: Connection, *, chunk: int) -> Iterator[list[Met]]:
    """What was found, in pieces, by key."""
    last = (-1, -1)
    while True:
        rows = conn.execute(
            select(_MET)
            .where(tuple_(_MET.c.stream_id, _MET.c.offset) > tuple_(*last))
            .order_by(_MET.c.stream_id, _MET.c.offset)
            .limit(chunk)
        ).all()
        if not rows:
            return
        found = [Met(*row) for row in rows]
        yield found
        last = found[-1].stream_id, found[-1].offset


def unknown_ids(conn: Connection, *, limit: int) -> tuple[int, list[str]]:
    """How many given ids no scored image has, and the first of them."""
    met = select(_MET.c.id).where(_MET.c.id == _GIVEN.c.id).exists()
    count = conn.scalar(select(func.count()).select_from(_GIVEN).where(~met)) or 0
    first = conn.scalars(select(_GIVEN.c.id).where(~met).order_by(_GIVEN.c.id).limit(limit)).all()
    return count, list(first)


def put_labels(conn: Connection, rows: Sequence[tuple[Met, bool]], *, now: datetime) -> None:
    """Store labels and whether the model was right; a label that was there is replaced."""
    if not rows:
        return
    statement = insert_or(conn, LabelRow)
    changing = {name: statement.excluded[name] for name in ("label", "is_right", "given_at")}
    values = [
        {
            "stream_id": met.stream_id,
            "offset": met.offset,
            "deployment_id": met.deployment_id,
            "event_time": from_microseconds(met.event_time),
            "segment_id": met.segment_id,
            "reference_id": met.reference_id,
            "class_index": met.class_index,
            "is_ood": bool(met.is_ood),
            "label": met.label,
            "is_right": is_right,
            "given_at": now,
        }
        for met, is_right in rows
    ]
    conn.execute(
        statement.on_conflict_do_update(index_elements=[LabelRow.stream_id, LabelRow.offset], set_=changing), values
    )
