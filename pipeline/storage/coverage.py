"""A window of production for the coverage report: its random samples, and the supports of all its rows."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Integer, func, null, select, type_coerce

from pipeline.storage.samples import same_record
from pipeline.storage.schema import ReferenceRow, SampleRow, ScoreRow, SegmentRow, StreamRow


@dataclass(frozen=True, slots=True)
class WindowSample:
    """One random sample of a window."""

    features: bytes  # float16
    segment: str
    name: str
    value_sha256: bytes
    model_id: str
    thumbnail: bytes | None
    id: int


class SegmentSupport(NamedTuple):
    """What the rows of a segment say; drills are left out."""

    segment: str
    images: int
    supported: int  # rows whose support is known
    mean_support: float | None  # P-precision of them
    flagged: float  # share of OOD images


def window_samples(
    conn: Connection,
    deployment_id: int,
    start: datetime,
    end: datetime,
    *,
    segment: str | None,
    limit: int,
    thumbnails: bool = True,
) -> list[WindowSample]:
    """Random samples with features, start <= event time < end: those of highest rank, at most `limit`.

    A segment and minute keeps few whatever its traffic; the highest ranks of all come nearest to its shares.
    """
    statement = (
        select(
            SampleRow.id.label("key"),
            SampleRow.features,
            (SampleRow.thumbnail if thumbnails else null()).label("thumbnail"),
            SampleRow.offset,
            SegmentRow.name,
            ScoreRow.id,
            ScoreRow.value_sha256,
            ReferenceRow.model_id,
        )
        .join(ScoreRow, same_record())
        .join(SegmentRow, SegmentRow.id == SampleRow.segment_id)
        .join(ReferenceRow, ReferenceRow.id == SampleRow.reference_id)
        .where(
            SampleRow.deployment_id == deployment_id,
            SampleRow.kind == "random",
            SampleRow.features.is_not(None),
            SampleRow.event_time >= start,
            SampleRow.event_time < end,
        )
        .order_by(SampleRow.rank.desc(), SampleRow.id)
        .limit(limit)
    )
    if segment is not None:
        statement = statement.where(SegmentRow.name == segment)
    return [
        WindowSample(
            features=row.features,
            segment=row.name,
            name=row.id or f"offset {row.offset}",
            value_sha256=row.value_sha256,
            model_id=row.model_id,
            thumbnail=row.thumbnail,
            id=row.key,
        )
        for row in conn.execute(statement)
    ]


def support_by_segment(
    conn: Connection, deployment_id: int, reference_id: int, start: datetime, end: datetime
) -> list[SegmentSupport]:
    """Of the images scored with a reference, start <= event time < end, by segment."""
    rows = conn.execute(
        select(
            SegmentRow.name,
            func.count(),
            func.count(ScoreRow.support),
            func.avg(ScoreRow.support),
            func.sum(type_coerce(ScoreRow.is_ood, Integer)),
        )
        .join(StreamRow, StreamRow.id == ScoreRow.stream_id)
        .join(SegmentRow, SegmentRow.id == ScoreRow.segment_id)
        .where(
            StreamRow.deployment_id == deployment_id,
            ScoreRow.reference_id == reference_id,
            ScoreRow.event_time >= start,
            ScoreRow.event_time < end,
            type_coerce(ScoreRow.drill, Integer) == 0,
        )
        .group_by(SegmentRow.name)
        .order_by(SegmentRow.name)
    )
    return [SegmentSupport(name, n, known, mean, int(flags) / n) for name, n, known, mean, flags in rows]
