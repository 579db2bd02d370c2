"""Erase what points to a person: id, key, label, hash, picture, features, masks. The anonymous row stays."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, select, tuple_, update

from pipeline.storage.explanation_schema import ExplanationRow
from pipeline.storage.label_schema import LabelRow
from pipeline.storage.schema import DeadLetterRow, SampleRow, ScoreRow, SegmentRow, StreamRow

Subject = Literal["id", "key", "segment"]


class Coordinates(NamedTuple):
    """Where a record lies in the log."""

    topic: str
    topic_id: str
    partition: int
    offset: int


class Forgotten(NamedTuple):
    """How many of each were erased in the database."""

    scores: int
    dead_letters: int
    samples: int
    explanations: int
    values: tuple[bytes, ...]  # sha256 of the originals, for whoever keeps something under them


def coordinates_of(conn: Connection, subject: Subject, value: str) -> list[Coordinates]:
    """Every record that carries this id, key or segment, scored or dead. Reads the whole tables."""
    found: list[Coordinates] = []
    for table, condition in (
        (ScoreRow, _scores_of(subject, value)),
        (DeadLetterRow, _dead_letters_of(subject, value)),
    ):
        statement = (
            select(StreamRow.topic, StreamRow.topic_id, StreamRow.partition, table.offset)
            .join(StreamRow, StreamRow.id == table.stream_id)
            .where(condition)
        )
        found += [Coordinates(*row) for row in conn.execute(statement)]
    return found


def forget(conn: Connection, coordinates: Sequence[Coordinates]) -> Forgotten:
    """Erase the rows of these records: samples and explanations go, scores and dead letters
    lose what identifies them."""
    streams = {
        (row.topic, row.topic_id, row.partition): row.id
        for row in conn.execute(select(StreamRow.id, StreamRow.topic, StreamRow.topic_id, StreamRow.partition))
    }
    keys = [
        (stream_id, at.offset)
        for at in coordinates
        for key, stream_id in streams.items()
        if key == (at.topic, at.topic_id, at.partition)
    ]
    scores = dead = samples = explanations = 0
    values: set[bytes] = set()
    for chunk in (keys[i : i + 400] for i in range(0, len(keys), 400)):
        values |= set(conn.scalars(select(ScoreRow.value_sha256).where(_one_of(ScoreRow, chunk))))
        explanations += conn.execute(delete(ExplanationRow).where(_one_of(ExplanationRow, chunk))).rowcount
        samples += conn.execute(delete(SampleRow).where(_one_of(SampleRow, chunk))).rowcount
        conn.execute(delete(LabelRow).where(_one_of(LabelRow, chunk)))
        scores += conn.execute(
            update(ScoreRow).where(_one_of(ScoreRow, chunk)).values(id=None, key=None, label=None, value_sha256=b"")
        ).rowcount
        dead += conn.execute(
            update(DeadLetterRow)
            .where(_one_of(DeadLetterRow, chunk))
            .values(id=None, key=None, value_sha256=None, error="erased on request")
        ).rowcount
    return Forgotten(scores, dead, samples, explanations, tuple(sorted(values - {b""})))


def _one_of(table: Any, keys: Sequence[tuple[int, int]]) -> ColumnElement[bool]:
    return tuple_(table.stream_id, table.offset).in_(keys)


def _scores_of(subject: Subject, value: str) -> ColumnElement[bool]:
    if subject == "segment":
        return ScoreRow.segment_id.in_(select(SegmentRow.id).where(SegmentRow.name == value))
    return ScoreRow.id == value if subject == "id" else ScoreRow.key == value.encode()


def _dead_letters_of(subject: Subject, value: str) -> ColumnElement[bool]:
    if subject == "segment":
        return DeadLetterRow.segment == value
    return DeadLetterRow.id == value if subject == "id" else DeadLetterRow.key == value.encode()
