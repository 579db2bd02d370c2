"""Fold: roll-up parts become ticks. A part is added to its ticks in the transaction that deletes it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from pipeline.shift.folding import POOLED, Part, TickKey, fold, targets
from pipeline.storage.deployments import OVERFLOW_SEGMENT, ensure_segments
from pipeline.storage.engine import reading
from pipeline.storage.monitoring import Superseded, Watched, claim, made_levels, read_position
from pipeline.storage.ticks import (
    StoredTick,
    delete_parts,
    first_beyond_cap,
    put_ticks,
    read_parts,
    read_ticks,
)
from pipeline.storage.verdicts import note_revised, replay_floors

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Folded:
    """What one transaction has folded."""

    parts: int = 0
    images: int = 0
    late_parts: int = 0
    late_images: int = 0  # of ticks that were evaluated already
    too_late_images: int = 0  # of them: in the roll-ups, not in the evidence
    revised: int = 0  # ticks, of all levels, that were complete before


def fold_parts(engine: Engine, deployment: Watched, *, limit: int, max_segments: int, now: datetime) -> Folded:
    """Fold the oldest parts, at most `limit`. Raises Superseded where another monitor was quicker."""
    with reading(engine).connect() as conn:
        position = read_position(conn, deployment.id)
        assert position is not None
        parts = read_parts(conn, deployment.id, limit=limit)
        cutoff = first_beyond_cap(conn, deployment.id, max_segments) if parts else None
    if not parts:
        return Folded()
    parts, overflow = (parts, 0) if cutoff is None else _capped(engine, deployment, parts, cutoff, max_segments)
    with reading(engine).connect() as conn:
        made = made_levels(conn, deployment.id)
        addends = [
            (key, part, late)
            for part in parts
            for key, late in targets(part, evaluated_until=position.evaluated_until, made_until=made)
        ]
        known = read_ticks(conn, deployment.id, (key for key, _, _ in addends))
        revised_from, too_late = _replays(
            conn, deployment, [part for key, part, late in addends if _is_late(key, late)]
        )
    totals = fold(((key, part.sums) for key, part, _ in addends), {key: tick.sums for key, tick in known.items()})
    revised = {key for key, _, late in addends if late}
    ticks = {key: StoredTick(sums, _revision(known.get(key)) + (key in revised)) for key, sums in totals.items()}
    late = [part for key, part, is_late in addends if _is_late(key, is_late)]
    folded = Folded(len(parts), _images(parts), len(late), _images(late), _images(too_late), len(revised))
    added = {
        "folded_parts": folded.parts,
        "late_parts": folded.late_parts,
        "late_images": folded.late_images,
        "too_late_images": folded.too_late_images,
        "overflow_parts": overflow,
    }
    with engine.begin() as conn:
        claim(conn, position, now=now, added=added, fed_at=now)
        if delete_parts(conn, [part.id for part in parts]) != len(parts):
            raise Superseded  # retention has taken some of them
        put_ticks(conn, deployment.id, ticks, replaced=known)
        note_revised(conn, deployment.id, revised_from)
    if overflow and not position.overflow_parts:
        logger.error(
            "deployment %s has more than %d segments: the images of all that came later are counted as %r;"
            " name fewer segments, or raise [monitor] max_segments and [worker] max_segments",
            deployment.name,
            max_segments,
            OVERFLOW_SEGMENT,
        )
    return folded


def _capped(
    engine: Engine, deployment: Watched, parts: Sequence[Part], cutoff: int, max_segments: int
) -> tuple[list[Part], int]:
    """The parts with all segments from `cutoff` on counted as `other`; and how many those are."""
    with engine.begin() as conn:
        other = ensure_segments(conn, deployment.id, [OVERFLOW_SEGMENT], limit=max_segments)[OVERFLOW_SEGMENT]
    capped = [part._replace(segment_id=other) if part.segment_id >= cutoff else part for part in parts]
    return capped, sum(part.segment_id >= cutoff for part in parts)


def _replays(conn: Connection, deployment: Watched, late: Sequence[Part]) -> tuple[dict[int, datetime], list[Part]]:
    """From where on each reference's ticks have to be replayed, and the parts that come too late for that."""
    states = replay_floors(conn, deployment.id) if late else {}
    revised_from: dict[int, datetime] = {}
    too_late: list[Part] = []
    for part in late:
        floor, pending = states.get(part.reference_id, (None, None))
        if floor is None or part.tick < floor:
            too_late.append(part)
        else:
            earlier = revised_from.get(part.reference_id) or pending or part.tick
            revised_from[part.reference_id] = min(part.tick, earlier)
    return revised_from, too_late


def _is_late(key: TickKey, late: bool) -> bool:
    """Whether this is the part's own minute, and it was evaluated before: each part is counted once."""
    return late and key.minutes == 1


def _images(parts: Sequence[Part]) -> int:
    """Every image is in one pooled part."""
    return sum(part.sums.n for part in parts if part.segment_id == POOLED)


def _revision(known: StoredTick | None) -> int:
    return 0 if known is None else known.revision
