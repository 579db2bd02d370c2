"""Samples: the strangest few and a random few images of each segment and tick."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Delete,
    Select,
    and_,
    bindparam,
    delete,
    func,
    select,
    tuple_,
    type_coerce,
)

from pipeline.storage.bulk import insert_many
from pipeline.storage.explanation_schema import ExplanationRow
from pipeline.storage.schema import DeploymentRow, ReferenceRow, SampleRow, ScoreRow, SegmentRow, StreamRow


class NewSample(NamedTuple):
    """One row of `sample` in the database's own values."""

    deployment_id: int
    reference_id: int
    segment_id: int
    tick: int
    kind: str
    rank: float
    stream_id: int
    offset: int
    event_time: int
    thumbnail: bytes | None
    features: bytes | None
    logits: bytes | None
    headers: str  # JSON


class Slot(NamedTuple):
    """What competes for the same places."""

    segment_id: int
    tick: int
    kind: str


def insert_samples(conn: Connection, samples: Sequence[NewSample], places: int) -> None:
    """Append samples and drop what then exceeds `places` in a slot: the lowest ranks go.

    What another worker is dropping is left to it: two that fill one slot at once never wait for one
    another, and the next one drops what both have left.
    """
    insert_many(conn, SampleRow, NewSample._fields, samples)
    slots = sorted({Slot(sample.segment_id, sample.tick, sample.kind) for sample in samples})
    for chunk in (slots[i : i + 200] for i in range(0, len(slots), 200)):
        conn.execute(_drop_surplus(), {"slots": chunk, "places": places})


@lru_cache
def _drop_surplus() -> Delete:
    """Built once: building it costs more than running it."""
    slot = (SampleRow.segment_id, type_coerce(SampleRow.tick, BigInteger), SampleRow.kind)
    place = func.row_number().over(partition_by=slot, order_by=SampleRow.rank.desc()).label("place")
    ranked = select(SampleRow.id, place).where(tuple_(*slot).in_(bindparam("slots", expanding=True))).subquery()
    surplus = select(ranked.c.id).where(ranked.c.place > bindparam("places"))
    unlocked = select(SampleRow.id).where(SampleRow.id.in_(surplus)).with_for_update(skip_locked=True)
    return delete(SampleRow).where(SampleRow.id.in_(unlocked))


def trim_oldest(conn: Connection, table: type[SampleRow | ExplanationRow], keep: int, chunk: int) -> int:
    """Delete the oldest rows beyond `keep` in all, at most `chunk` of them; return how many."""
    newest = conn.scalar(select(func.max(table.id)))
    if newest is None:
        return 0
    old = select(table.id).where(table.id <= newest - keep).order_by(table.id).limit(chunk)
    old = old.with_for_update(skip_locked=True)
    return conn.execute(delete(table).where(table.id.in_(old))).rowcount


@dataclass(frozen=True, slots=True)
class StoredOutputs:
    """The model's outputs on one stored sample, as kept: float16."""

    logits: bytes
    features: bytes
    value_sha256: bytes
    label: str | None
    name: str
    thumbnail: bytes | None


def count_random_outputs(conn: Connection, deployment: str, segment: str | None) -> int:
    """How many random samples with outputs there are; see `random_outputs`."""
    chosen = _random_outputs(deployment, segment).subquery()
    return conn.scalar(select(func.count()).select_from(chosen)) or 0


def random_outputs(conn: Connection, deployment: str, segment: str | None) -> Iterator[StoredOutputs]:
    """The random samples of a deployment, perhaps of one segment, oldest first.

    The strange ones are left out: they were chosen by the score that they would judge.
    """
    for row in conn.execute(_random_outputs(deployment, segment), execution_options={"yield_per": 1000}):
        yield StoredOutputs(
            row.logits, row.features, row.value_sha256, row.label, row.id or f"offset {row.offset}", row.thumbnail
        )


@dataclass(frozen=True, slots=True)
class LabelledFeatures:
    """What a stored sample gives to a retraining of the last layer."""

    features: bytes  # float16
    id: str | None
    label: str | None
    segment: str
    value_sha256: bytes
    model_id: str
    is_random: bool  # False: kept for its score


def sample_features(
    conn: Connection, deployment: str, start: datetime | None, end: datetime | None
) -> Iterator[LabelledFeatures]:
    """All samples of a deployment with start <= event time < end that have features, each image once, oldest first.

    An image that was kept twice counts as a random one.
    """
    statement = (
        select(
            SampleRow.stream_id,
            SampleRow.offset,
            SampleRow.kind,
            SampleRow.features,
            ScoreRow.id,
            ScoreRow.label,
            ScoreRow.value_sha256,
            SegmentRow.name,
            ReferenceRow.model_id,
        )
        .join(ScoreRow, same_record())
        .join(DeploymentRow, DeploymentRow.id == SampleRow.deployment_id)
        .join(SegmentRow, SegmentRow.id == SampleRow.segment_id)
        .join(ReferenceRow, ReferenceRow.id == SampleRow.reference_id)
        .where(DeploymentRow.name == deployment, SampleRow.features.is_not(None))
        .order_by(SampleRow.event_time, SampleRow.stream_id, SampleRow.offset, SampleRow.kind)  # random before strange
    )
    if start is not None:
        statement = statement.where(SampleRow.event_time >= start)
    if end is not None:
        statement = statement.where(SampleRow.event_time < end)
    last: tuple[int, int] | None = None
    for row in conn.execute(statement, execution_options={"yield_per": 1000}):
        if last != (row.stream_id, row.offset):
            last = row.stream_id, row.offset
            yield LabelledFeatures(
                row.features, row.id, row.label, row.name, row.value_sha256, row.model_id, row.kind == "random"
            )


@dataclass(frozen=True, slots=True)
class SamplePlace:
    """Where the original of a stored sample lies in the log."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    value_sha256: bytes
    label: str | None


def random_places(
    conn: Connection, deployment: str, start: datetime | None, end: datetime | None, limit: int
) -> list[SamplePlace]:
    """Of the newest random samples of a deployment with start <= event time < end."""
    statement = (
        select(
            StreamRow.topic,
            StreamRow.topic_id,
            StreamRow.partition,
            SampleRow.offset,
            ScoreRow.value_sha256,
            ScoreRow.label,
        )
        .join(ScoreRow, same_record())
        .join(StreamRow, StreamRow.id == SampleRow.stream_id)
        .join(DeploymentRow, DeploymentRow.id == SampleRow.deployment_id)
        .where(DeploymentRow.name == deployment, SampleRow.kind == "random")
        .order_by(SampleRow.event_time.desc(), SampleRow.id)
        .limit(limit)
    )
    if start is not None:
        statement = statement.where(SampleRow.event_time >= start)
    if end is not None:
        statement = statement.where(SampleRow.event_time < end)
    return [SamplePlace(*row) for row in conn.execute(statement)]


def same_record() -> ColumnElement[bool]:
    """A sample's own row of `score`."""
    return and_(
        ScoreRow.stream_id == SampleRow.stream_id,
        ScoreRow.offset == SampleRow.offset,
        ScoreRow.event_time == SampleRow.event_time,  # one partition of PostgreSQL is read, not all
    )


def _random_outputs(deployment: str, segment: str | None) -> Select[*tuple[Any, ...]]:
    statement: Select[*tuple[Any, ...]] = (
        select(
            SampleRow.logits,
            SampleRow.features,
            SampleRow.thumbnail,
            SampleRow.offset,
            ScoreRow.value_sha256,
            ScoreRow.label,
            ScoreRow.id,
        )
        .join(ScoreRow, same_record())
        .join(DeploymentRow, DeploymentRow.id == SampleRow.deployment_id)
        .where(DeploymentRow.name == deployment, SampleRow.kind == "random", SampleRow.logits.is_not(None))
        .order_by(SampleRow.id)
    )
    if segment is None:
        return statement
    return statement.join(SegmentRow, SegmentRow.id == SampleRow.segment_id).where(SegmentRow.name == segment)
