"""Samples as pages show them: a few pictures with what their scores said."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, null, select, text

from pipeline.storage.samples import same_record
from pipeline.storage.schema import SampleRow, ScoreRow, SegmentRow, StreamRow

Order = Literal["strangest", "newest", "least supported"]

#: Where pictures are kept, and what was outlined in them: column by table.
PICTURES = {"sample": "thumbnail", "reference_image": "thumbnail", "explanation": "content"}

_ORDERS: dict[Order, ColumnElement[Any]] = {
    "strangest": ScoreRow.score.desc(),
    "newest": SampleRow.event_time.desc(),
    "least supported": ScoreRow.support.asc(),
}


class Picture(NamedTuple):
    """One stored sample; its original stays in the log at (topic, partition, offset)."""

    id: int
    segment: str
    kind: str  # strange, random
    event_time: datetime
    class_index: int
    energy: float
    score: float
    msp: float
    is_ood: bool
    label: str | None
    name: str | None
    topic: str
    partition: int
    offset: int
    thumbnail: bytes | None
    support: float | None  # by the reference's images, 0..1


def read_pictures(
    conn: Connection,
    deployment_id: int,
    window: tuple[datetime, datetime],
    *,
    segments: Sequence[int],
    flagged: bool | None,
    order: Order,
    limit: int,
    thumbnails: bool = True,
) -> list[Picture]:
    """Samples with start <= tick < end of these segments, each image once; `flagged` None: both.

    Without `thumbnails` no picture leaves the database.
    """
    statement = (
        _pictures(thumbnails)
        .where(
            SampleRow.deployment_id == deployment_id,
            SampleRow.segment_id.in_(segments),
            SampleRow.tick >= window[0],
            SampleRow.tick < window[1],
            ScoreRow.drill.in_([False]),
        )
        .order_by(_ORDERS[order])
        .limit(2 * limit)  # one image may be kept twice: as strange and as random
    )
    if order == "least supported":
        statement = statement.where(ScoreRow.support.is_not(None))
    if flagged is not None:
        statement = statement.where(ScoreRow.is_ood == flagged)
    return _each_once(conn, statement)[:limit]


def pictures_by_key(
    conn: Connection, deployment_id: int, keys: Collection[int], *, thumbnails: bool = True
) -> list[Picture]:
    """These samples of a deployment, as far as they are still kept, oldest first; each image once."""
    statement = _pictures(thumbnails).where(SampleRow.deployment_id == deployment_id, SampleRow.id.in_(keys))
    return _each_once(conn, statement.order_by(SampleRow.event_time, SampleRow.id))


def _pictures(thumbnails: bool) -> Select[*tuple[Any, ...]]:
    """Columns in the order of Picture."""
    return (
        select(
            SampleRow.id,
            SegmentRow.name,
            SampleRow.kind,
            SampleRow.event_time,
            ScoreRow.class_index,
            ScoreRow.energy,
            ScoreRow.score,
            ScoreRow.msp,
            ScoreRow.is_ood,
            ScoreRow.label,
            ScoreRow.id,
            StreamRow.topic,
            StreamRow.partition,
            SampleRow.offset,
            SampleRow.thumbnail if thumbnails else null(),
            ScoreRow.support,
        )
        .join(ScoreRow, same_record())
        .join(SegmentRow, SegmentRow.id == SampleRow.segment_id)
        .join(StreamRow, StreamRow.id == SampleRow.stream_id)
    )


def _each_once(conn: Connection, statement: Select[*tuple[Any, ...]]) -> list[Picture]:
    found: dict[tuple[str, int, int], Picture] = {}
    for row in conn.execute(statement):
        picture = Picture._make(row)
        found.setdefault((picture.topic, picture.partition, picture.offset), picture)
    return list(found.values())


def may_read_pictures(conn: Connection) -> bool:
    """Whether this login may: on PostgreSQL there is a role that may not, see `roles`."""
    if conn.dialect.name != "postgresql":
        return True
    asked = (f"has_column_privilege('{table}', '{column}', 'SELECT')" for table, column in PICTURES.items())
    return bool(conn.scalar(text(f"SELECT {' AND '.join(asked)}")))
