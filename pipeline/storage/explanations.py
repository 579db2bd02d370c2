"""Stored images by their id, and what was found out about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, insert, select

from pipeline.storage.explanation_schema import ExplanationRow
from pipeline.storage.schema import DeploymentRow, ReferenceRow, SampleRow, ScoreRow, StreamRow


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A scored record: where its original lies in the log, and what is kept of it here."""

    id: str | None
    deployment_id: int
    deployment: str
    reference_id: int
    model_id: str
    stream_id: int
    topic: str
    topic_id: str
    partition: int
    offset: int
    event_time: datetime
    value_sha256: bytes  # of the original; empty: erased on request
    energy: float
    score: float
    thumbnail: bytes | None


def stored_image(conn: Connection, image_id: str, deployment: str | None) -> StoredImage | None:
    """The newest scored record with this id, perhaps of one deployment; None where there is none. Reads all scores."""
    statement = _images().where(ScoreRow.id == image_id)
    if deployment is not None:
        statement = statement.where(DeploymentRow.name == deployment)
    newest = statement.order_by(ScoreRow.event_time.desc(), ScoreRow.offset.desc(), SampleRow.kind).limit(1)
    row = conn.execute(newest).one_or_none()
    return None if row is None else StoredImage(*row)


def sampled_image(conn: Connection, sample_id: int) -> StoredImage | None:
    """The scored record of a kept sample by the sample's key; None where it is not kept any more."""
    row = conn.execute(_images().where(SampleRow.id == sample_id)).one_or_none()
    return None if row is None else StoredImage(*row)


def unexplained_images(conn: Connection, model_id: str, segmenter: str, limit: int) -> list[StoredImage]:
    """Flagged samples of a model that this segmenter has not explained, the newest first, each once."""
    known = exists().where(
        ExplanationRow.stream_id == ScoreRow.stream_id,
        ExplanationRow.offset == ScoreRow.offset,
        ExplanationRow.reference_id == ScoreRow.reference_id,
        ExplanationRow.segmenter == segmenter,
    )
    # Of an image that was kept twice, as strange and as random, one row.
    first = (
        select(func.min(SampleRow.id).label("id"))
        .where(SampleRow.thumbnail.is_not(None))
        .group_by(SampleRow.stream_id, SampleRow.offset)
        .subquery()
    )
    statement = (
        _images()
        .join(first, first.c.id == SampleRow.id)
        .where(ScoreRow.is_ood == True, ReferenceRow.model_id == model_id, ~known)  # noqa: E712 SQL
        .order_by(SampleRow.id.desc())
        .limit(limit)
    )
    return [StoredImage(*row) for row in conn.execute(statement)]


def may_save(conn: Connection) -> bool:
    """Whether this login may store explanations; on PostgreSQL a reader may not."""
    if conn.dialect.name != "postgresql":
        return True
    return bool(conn.scalar(select(func.has_table_privilege(ExplanationRow.__tablename__, "INSERT"))))


def save_explanation(
    conn: Connection, image: StoredImage, *, segmenter: str, picture: str, content: Mapping[str, Any], now: datetime
) -> bool:
    """Store what was found, once; return whether it is new. Nothing is stored of an image that was erased meanwhile."""
    kept = select(ScoreRow.value_sha256).where(
        ScoreRow.stream_id == image.stream_id,
        ScoreRow.offset == image.offset,
        ScoreRow.event_time == image.event_time,
    )
    if conn.scalar(kept) != image.value_sha256 or not image.value_sha256:
        return False
    if find_explanation(conn, image, segmenter) is not None:
        return False
    conn.execute(
        insert(ExplanationRow).values(
            deployment_id=image.deployment_id,
            reference_id=image.reference_id,
            stream_id=image.stream_id,
            offset=image.offset,
            event_time=image.event_time,
            segmenter=segmenter,
            picture=picture,
            made_at=now,
            content=dict(content),
        )
    )
    return True


def find_explanation(conn: Connection, image: StoredImage, segmenter: str) -> dict[str, Any] | None:
    """What this segmenter found in the image under its reference; None where it was not asked."""
    return conn.scalar(
        select(ExplanationRow.content).where(
            ExplanationRow.stream_id == image.stream_id,
            ExplanationRow.offset == image.offset,
            ExplanationRow.reference_id == image.reference_id,
            ExplanationRow.segmenter == segmenter,
        )
    )


def _images() -> Select[*tuple[Any, ...]]:
    """Columns in the order of StoredImage."""
    return (
        select(
            ScoreRow.id,
            DeploymentRow.id,
            DeploymentRow.name,
            ScoreRow.reference_id,
            ReferenceRow.model_id,
            ScoreRow.stream_id,
            StreamRow.topic,
            StreamRow.topic_id,
            StreamRow.partition,
            ScoreRow.offset,
            ScoreRow.event_time,
            ScoreRow.value_sha256,
            ScoreRow.energy,
            ScoreRow.score,
            SampleRow.thumbnail,
        )
        .select_from(ScoreRow)
        .join(StreamRow, StreamRow.id == ScoreRow.stream_id)
        .join(DeploymentRow, DeploymentRow.id == StreamRow.deployment_id)
        .join(ReferenceRow, ReferenceRow.id == ScoreRow.reference_id)
        .outerjoin(
            SampleRow,
            and_(
                SampleRow.stream_id == ScoreRow.stream_id,
                SampleRow.offset == ScoreRow.offset,
                SampleRow.event_time == ScoreRow.event_time,
            ),
        )
    )
