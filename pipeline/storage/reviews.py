"""Verdicts of people on sampled images: stored one after another, the newest of an image counts."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Integer, and_, func, insert, select, type_coerce

from pipeline.alerts.precision import Judged, Verdict
from pipeline.storage.review_schema import ReviewRow
from pipeline.storage.samples import same_record
from pipeline.storage.schema import SampleRow, ScoreRow, SegmentRow


class ReviewLine(NamedTuple):
    """One verdict; None: the one before was withdrawn."""

    verdict: Verdict | None
    who: str
    at: datetime


def may_review(conn: Connection) -> bool:
    """Whether this login may store verdicts; on PostgreSQL a reader may not."""
    if conn.dialect.name != "postgresql":
        return True
    return bool(conn.scalar(select(func.has_table_privilege(ReviewRow.__tablename__, "INSERT"))))


def save_review(conn: Connection, sample_id: int, verdict: Verdict | None, *, who: str, now: datetime) -> bool:
    """Store what a person said of a sample's image; False: the sample is no longer kept."""
    image = select(
        SampleRow.deployment_id,
        SampleRow.stream_id,
        SampleRow.offset,
        SampleRow.event_time,
        SampleRow.segment_id,
        ScoreRow.is_ood,
    ).join(ScoreRow, same_record())
    found = conn.execute(image.where(SampleRow.id == sample_id)).one_or_none()
    if found is None:
        return False
    conn.execute(insert(ReviewRow).values(**found._mapping, verdict=verdict, who=who, at=now))
    return True


def newest_reviews(conn: Connection, sample_ids: Collection[int]) -> dict[int, ReviewLine]:
    """What was last said of these samples' images, by sample; without those of which nothing stands."""
    newest = (
        select(func.max(ReviewRow.id))
        .join(SampleRow, _same_image())
        .where(SampleRow.id.in_(sample_ids))
        .group_by(ReviewRow.stream_id, ReviewRow.offset)
    )
    statement = (
        select(SampleRow.id, ReviewRow.verdict, ReviewRow.who, ReviewRow.at)
        .join(SampleRow, _same_image())
        .where(SampleRow.id.in_(sample_ids), ReviewRow.id.in_(newest), ReviewRow.verdict.is_not(None))
    )
    return {key: ReviewLine._make(rest) for key, *rest in conn.execute(statement)}


def history_of_image(conn: Connection, sample_id: int) -> list[ReviewLine]:
    """All that was ever said of a sample's image, oldest first."""
    statement = (
        select(ReviewRow.verdict, ReviewRow.who, ReviewRow.at)
        .join(SampleRow, _same_image())
        .where(SampleRow.id == sample_id)
        .order_by(ReviewRow.id)
    )
    return [ReviewLine._make(row) for row in conn.execute(statement)]


def flagged_judged(conn: Connection, deployment_id: int) -> list[Judged]:
    """What stands of each flagged image of a deployment that a person has judged, oldest image first."""
    newest = (
        select(func.max(ReviewRow.id))
        .where(ReviewRow.deployment_id == deployment_id)
        .group_by(ReviewRow.stream_id, ReviewRow.offset)
    )
    statement = (
        select(SegmentRow.name, ReviewRow.event_time, ReviewRow.verdict)
        .join(SegmentRow, SegmentRow.id == ReviewRow.segment_id)
        .where(ReviewRow.id.in_(newest), ReviewRow.verdict.is_not(None), type_coerce(ReviewRow.is_ood, Integer) == 1)
        .order_by(ReviewRow.event_time, ReviewRow.id)
    )
    return [Judged._make(row) for row in conn.execute(statement)]


def _same_image() -> ColumnElement[bool]:
    return and_(SampleRow.stream_id == ReviewRow.stream_id, SampleRow.offset == ReviewRow.offset)
