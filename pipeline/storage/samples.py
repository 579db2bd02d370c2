"""Samples: the strangest few and a random few images of each segment and tick."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, delete, func, select, tuple_, type_coerce

from pipeline.storage.bulk import insert_many
from pipeline.storage.schema import SampleRow


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


def kept_ranks(conn: Connection, slots: Iterable[Slot]) -> dict[Slot, list[float]]:
    """Ranks of the samples that each slot holds, ascending."""
    wanted = list(slots)
    ranks: dict[Slot, list[float]] = {slot: [] for slot in wanted}
    tick = type_coerce(SampleRow.tick, BigInteger)
    for chunk in (wanted[i : i + 200] for i in range(0, len(wanted), 200)):
        for row in conn.execute(
            select(SampleRow.segment_id, tick, SampleRow.kind, SampleRow.rank)
            .where(tuple_(SampleRow.segment_id, tick, SampleRow.kind).in_(chunk))
            .order_by(SampleRow.rank)
        ):
            ranks[Slot(*row[:3])].append(row[3])
    return ranks


def insert_samples(conn: Connection, samples: Sequence[NewSample], places: int) -> None:
    """Append samples and drop what then exceeds `places` in a slot: the lowest ranks go."""
    insert_many(conn, SampleRow, NewSample._fields, samples)
    tick = type_coerce(SampleRow.tick, BigInteger)
    for slot in {Slot(sample.segment_id, sample.tick, sample.kind) for sample in samples}:
        mine = (SampleRow.segment_id == slot.segment_id) & (tick == slot.tick) & (SampleRow.kind == slot.kind)
        surplus = select(SampleRow.id).where(mine).order_by(SampleRow.rank.desc()).offset(places)
        if conn.dialect.name == "sqlite":
            surplus = surplus.limit(-1)
        conn.execute(delete(SampleRow).where(SampleRow.id.in_(surplus)))


def trim_samples(conn: Connection, keep: int, chunk: int) -> int:
    """Delete the oldest samples beyond `keep` in all, at most `chunk` of them; return how many."""
    newest = conn.scalar(select(func.max(SampleRow.id)))
    if newest is None:
        return 0
    old = select(SampleRow.id).where(SampleRow.id <= newest - keep).order_by(SampleRow.id).limit(chunk)
    return conn.execute(delete(SampleRow).where(SampleRow.id.in_(old))).rowcount
