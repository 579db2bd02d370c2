"""What an answer is made of: sums of windows, outcomes, samples, where the streams stand. Of bounded cost."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Integer, and_, func, or_, select, type_coerce

from pipeline.shift.covering import Stretch
from pipeline.shift.folding import POOLED
from pipeline.shift.rollup import RollUp, decode, merge
from pipeline.storage.label_schema import LabelRow
from pipeline.storage.schema import ReferenceImageRow, SampleRow, ScoreRow, StreamRow, TickRow

_SLICES = 8  # of a window, for outcomes
_LOOK_BACK = timedelta(hours=2)  # for samples: they are as many an hour as there are segments


class SegmentSums(NamedTuple):
    """Images of one reference and segment in a window."""

    n: int
    flags: int
    repeats: int


class Outcome(NamedTuple):
    """What the model said of one image, and what it was, where its producer knew."""

    segment_id: int
    class_index: int
    msp: float
    is_ood: bool
    label: str | None


class LabelSums(NamedTuple):
    """Late labels of one segment's flagged or other images."""

    segment_id: int
    is_ood: bool
    n: int
    right: int


class Standing(NamedTuple):
    """Where all streams of a deployment stand together."""

    newest: datetime | None  # event time
    waiting: int  # records in the log that are not scored yet
    scored: int
    lost: int  # dead letters, and what the log deleted unread


def segment_sums(
    conn: Connection, deployment_id: int, stretches: Sequence[Stretch]
) -> dict[int, dict[int, SegmentSums]]:
    """By reference, then by segment; POOLED is one of the segments. Added up by the database."""
    found: dict[int, dict[int, SegmentSums]] = {}
    if not stretches:
        return found
    columns = (func.sum(column) for column in (TickRow.n, TickRow.flags, TickRow.repeats))
    rows = conn.execute(
        select(TickRow.reference_id, TickRow.segment_id, *columns)
        .where(TickRow.deployment_id == deployment_id, _within(stretches))
        .group_by(TickRow.reference_id, TickRow.segment_id)
    )
    for reference_id, segment_id, *sums in rows:
        found.setdefault(reference_id, {})[segment_id] = SegmentSums(*map(int, sums))
    return found


def merged_ticks(
    conn: Connection, deployment_id: int, reference_id: int, segments: Collection[int], stretches: Sequence[Stretch]
) -> dict[int, RollUp]:
    """All sums of these segments over a window, by segment; those without an image are left out."""
    found: dict[int, RollUp] = {}
    if not stretches or not segments:
        return found
    rows = conn.execute(
        select(TickRow.segment_id, TickRow.content)
        .where(
            TickRow.deployment_id == deployment_id,
            TickRow.reference_id == reference_id,
            TickRow.segment_id.in_(segments),
            _within(stretches),
        )
        .order_by(TickRow.start)
    )
    for segment_id, content in rows:
        sums = decode(content)
        found[segment_id] = merge(found[segment_id], sums) if segment_id in found else sums
    return found


def began_scoring(
    conn: Connection, deployment_id: int, references: Iterable[int], start: datetime, end: datetime
) -> dict[int, datetime]:
    """The first minute with start <= minute < end of each reference that has one."""
    found: dict[int, datetime] = {}
    for reference_id in references:
        first = conn.scalar(
            select(func.min(TickRow.start)).where(
                TickRow.deployment_id == deployment_id,
                TickRow.reference_id == reference_id,
                TickRow.minutes == 1,
                TickRow.segment_id == POOLED,
                TickRow.start >= start,
                TickRow.start < end,
            )
        )
        if first is not None:
            found[reference_id] = first
    return found


def outcomes(
    conn: Connection, deployment_id: int, reference_id: int, start: datetime, end: datetime, *, limit: int
) -> list[Outcome]:
    """At most `limit` images with start <= event time < end: the first ones of eight equal slices. Drills left out."""
    streams = list(conn.scalars(select(StreamRow.id).where(StreamRow.deployment_id == deployment_id)))
    found: list[Outcome] = []
    step = (end - start) / _SLICES
    for at in range(_SLICES):
        rows = conn.execute(
            select(ScoreRow.segment_id, ScoreRow.class_index, ScoreRow.msp, ScoreRow.is_ood, ScoreRow.label)
            .where(
                ScoreRow.event_time >= start + at * step,
                ScoreRow.event_time < start + (at + 1) * step,
                ScoreRow.stream_id.in_(streams),
                ScoreRow.reference_id == reference_id,
                ScoreRow.drill == 0,
            )
            .order_by(ScoreRow.event_time)
            .limit(limit // _SLICES)
        )
        found += [Outcome(*row) for row in rows]
    return found


def label_sums(conn: Connection, deployment_id: int, start: datetime, end: datetime) -> list[LabelSums]:
    """Late labels of images with start <= event time < end."""
    rows = conn.execute(
        select(LabelRow.segment_id, LabelRow.is_ood, func.count(), func.sum(type_coerce(LabelRow.is_right, Integer)))
        .where(LabelRow.deployment_id == deployment_id, LabelRow.event_time >= start, LabelRow.event_time < end)
        .group_by(LabelRow.segment_id, LabelRow.is_ood)
        .order_by(LabelRow.segment_id, LabelRow.is_ood)
    )
    return [LabelSums(segment_id, is_ood, n, int(right)) for segment_id, is_ood, n, right in rows]


def labelled_confidences(conn: Connection, reference_id: int) -> list[tuple[str, int, float]]:
    """(label, class index, maximum softmax probability) of a reference's images that have both."""
    rows = conn.execute(
        select(ReferenceImageRow.label, ReferenceImageRow.class_index, ReferenceImageRow.msp).where(
            ReferenceImageRow.reference_id == reference_id,
            ReferenceImageRow.label.is_not(None),
            ReferenceImageRow.msp.is_not(None),
        )
    )
    return [(str(row.label), row.class_index, row.msp) for row in rows]


def sample_keys(
    conn: Connection, kind: str, segments: Collection[int], start: datetime, end: datetime, *, limit: int
) -> list[int]:
    """Keys of the samples with pictures that rank highest, in the last two hours of start <= tick < end."""
    return list(
        conn.scalars(
            select(SampleRow.id)
            .where(
                SampleRow.segment_id.in_(segments),
                SampleRow.tick >= max(start, end - _LOOK_BACK),
                SampleRow.tick < end,
                SampleRow.kind == kind,
                SampleRow.thumbnail.is_not(None),
            )
            .order_by(SampleRow.rank.desc(), SampleRow.id)
            .limit(limit)
        )
    )


def standing(conn: Connection, deployment_id: int) -> Standing:
    """As the worker last said."""
    row = conn.execute(
        select(
            func.max(StreamRow.newest_event_time),
            func.coalesce(func.sum(StreamRow.log_end - StreamRow.next_offset), 0),
            func.coalesce(func.sum(StreamRow.scored), 0),
            func.coalesce(func.sum(StreamRow.dead + StreamRow.expired), 0),
        ).where(StreamRow.deployment_id == deployment_id)
    ).one()
    newest, *counts = row
    return Standing(newest, *map(int, counts))


def _within(stretches: Sequence[Stretch]) -> ColumnElement[bool]:
    return or_(
        *(
            and_(TickRow.minutes == one.minutes, TickRow.start >= one.start, TickRow.start < one.end)
            for one in stretches
        )
    )
