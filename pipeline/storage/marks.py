"""Marks: what people did and when, held against onsets."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, or_, select

from pipeline.storage.alert_schema import MarkRow
from pipeline.storage.schema import DeploymentRow


@dataclass(frozen=True, slots=True)
class MarkLine:
    """One mark, as people see it."""

    id: int
    at: datetime
    text: str
    who: str
    deployment: str | None  # None: all
    made_at: datetime


def add_mark(conn: Connection, *, at: datetime, text: str, who: str, deployment_id: int | None, now: datetime) -> int:
    """Store a mark; its key."""
    values = {"at": at, "text": text, "who": who, "deployment_id": deployment_id, "made_at": now}
    return conn.execute(insert(MarkRow).values(**values).returning(MarkRow.id)).scalar_one()


def read_marks(
    conn: Connection,
    *,
    deployment_id: int | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int,
) -> list[MarkLine]:
    """The newest marks with start <= at < end of a deployment, and those for all; oldest first."""
    statement = (
        select(MarkRow.id, MarkRow.at, MarkRow.text, MarkRow.who, DeploymentRow.name, MarkRow.made_at)
        .outerjoin(DeploymentRow, DeploymentRow.id == MarkRow.deployment_id)
        .order_by(MarkRow.at.desc(), MarkRow.id.desc())
        .limit(limit)
    )
    if deployment_id is not None:
        statement = statement.where(or_(MarkRow.deployment_id == deployment_id, MarkRow.deployment_id.is_(None)))
    if start is not None:
        statement = statement.where(MarkRow.at >= start)
    if end is not None:
        statement = statement.where(MarkRow.at < end)
    return [MarkLine(*row) for row in conn.execute(statement)][::-1]
