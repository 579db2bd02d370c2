"""Samples: the strangest few and a random few images of each segment and tick."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, Delete, bindparam, delete, func, select, tuple_, type_coerce

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


def trim_samples(conn: Connection, keep: int, chunk: int) -> int:
    """Delete the oldest samples beyond `keep` in all, at most `chunk` of them; return how many."""
    newest = conn.scalar(select(func.max(SampleRow.id)))
    if newest is None:
        return 0
    old = select(SampleRow.id).where(SampleRow.id <= newest - keep).order_by(SampleRow.id).limit(chunk)
    old = old.with_for_update(skip_locked=True)
    return conn.execute(delete(SampleRow).where(SampleRow.id.in_(old))).rowcount
