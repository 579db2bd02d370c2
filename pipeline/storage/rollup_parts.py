"""Roll-up parts: the worker appends them, the monitor folds them into ticks."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from pipeline.storage.bulk import insert_many
from pipeline.storage.schema import RollUpPartRow


class NewPart(NamedTuple):
    """One row of `roll_up_part` in the database's own values; no segment = pooled."""

    deployment_id: int
    reference_id: int
    segment_id: int | None
    tick: int
    content: bytes


def insert_parts(conn: Connection, parts: Sequence[NewPart]) -> None:
    """Append parts in the transaction that writes their rows."""
    insert_many(conn, RollUpPartRow, NewPart._fields, parts)
