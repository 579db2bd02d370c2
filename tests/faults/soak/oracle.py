"""What was acknowledged against what is stored, by coordinates and content; nothing of the product is asked.

lost = due - stored - gaps, below the cursor; unread = the same, above it; duplicated = multiplicity - 1;
alien = stored, but neither acknowledged nor committed with this content at this place.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, text

from pipeline.shift.rollup import decode
from pipeline.storage.streams import ledger
from tests.faults.soak.journal import Journal, Place
from tests.faults.soak.records import EMPTY, TOMBSTONE, content_of, energies_of, is_poison, value_of

_ENERGY_TOLERANCE = 1e-4  # float32 forward pass against float64
_IDENTITY = ("deployment", "topic", "topic_id", "partition", "produced")


@dataclass(frozen=True)
class Verdict:
    """What the storm left behind."""

    acknowledged: int
    scored: int
    dead: int
    gaps: int  # offsets in recorded gaps
    lost: int
    unread: int
    duplicated: int
    alien: int
    wrong_energy: int
    misjudged: int  # poison that was scored, pictures that became dead letters
    ledger_exact: bool
    parts_equal_rows: bool
    remarks: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Every record exactly once, and every account exact."""
        wrong = self.lost, self.unread, self.duplicated, self.alien, self.wrong_energy, self.misjudged
        return not any(wrong) and self.ledger_exact and self.parts_equal_rows


@dataclass(frozen=True)
class _Stored:
    """All rows of the database, read once."""

    contents: list[tuple[Place, bytes]]
    scores: dict[Place, float]
    models: dict[Place, str]  # which each row names
    dead: set[Place]
    gaps: set[Place]
    cursors: dict[tuple[str, int], int]


def reconcile(
    engine: Engine,
    journal: Journal,
    *,
    topic_id: str,
    committed: Mapping[tuple[int, int], bytes],
    ends: Mapping[int, int],
    weights: Path,
    candidates: Mapping[str, Path] | None = None,
) -> Verdict:
    """Account for every record. `topic_id`, `committed` and `ends` are of the log as it is now.

    `candidates` are weights of models that were promoted meanwhile, by model id; all others have `weights`.
    """
    with engine.connect() as conn:
        stored = _read(conn)
        remarks = [*_inexact(conn, stored, topic_id, ends)]
        parts = _parts(conn)
    due = {place: content_of(value_of(number)) for place, number in journal.acknowledged.items()}
    present = {Place(topic_id, *at): content for at, content in committed.items()}
    remarks += [
        f"{place} holds another value than was sent" for place in due.keys() & present if due[place] != present[place]
    ]
    due |= present
    # A gap explains only what the log no longer holds.
    excused = stored.gaps - present.keys()
    missing = due.items() - set(stored.contents)
    missing = {(place, content) for place, content in missing if place not in excused}
    passed = {place for place, _ in missing if place.offset < stored.cursors.get(place[:2], 0)}
    ahead = {place for place, _ in missing if place not in passed and place.topic_id == topic_id}
    counts = Counter(place for place, _ in stored.contents)
    numbers = {place: journal.acknowledged[place] for place in stored.scores if place in journal.acknowledged}
    wrong, misjudged = _compare(stored, numbers, journal, weights, candidates or {})
    remarks += [f"lost {place}" for place in sorted(passed)[:5]] + [f"unread {place}" for place in sorted(ahead)[:5]]
    return Verdict(
        acknowledged=len(journal.acknowledged),
        scored=sum(1 for place, _ in stored.contents if place not in stored.dead),
        dead=len(stored.dead),
        gaps=len(stored.gaps),
        lost=len(passed),
        unread=len(ahead),
        duplicated=sum(count - 1 for count in counts.values()),
        alien=len(set(stored.contents) - due.items()),
        wrong_energy=wrong,
        misjudged=misjudged,
        ledger_exact=not any(remark.startswith("ledger") for remark in remarks),
        parts_equal_rows=parts is None,
        remarks=tuple(remarks) + ((parts,) if parts else ()),
    )


def _read(conn: Connection) -> _Stored:
    def rows(columns: str, table: str) -> list[Any]:
        statement = f"SELECT s.topic_id, s.partition, {columns} FROM {table} r JOIN stream s ON s.id = r.stream_id"
        return list(conn.execute(text(statement)))

    named = {row[0]: row[1] for row in conn.execute(text("SELECT id, model_id FROM reference"))}
    columns = 'r."offset", r.value_sha256, r.energy, r.reference_id'
    scores = [(Place(*row[:3]), bytes(row[3]), row[4], named[row[5]]) for row in rows(columns, "score")]
    dead = [
        (Place(*row[:3]), bytes(row[3]) if row[3] else (TOMBSTONE if row[4] is None else EMPTY))
        for row in rows('r."offset", r.value_sha256, r.value_size', "dead_letter")
    ]
    gaps = {
        Place(topic_id, partition, offset)
        for topic_id, partition, first, end in rows("r.from_offset, r.to_offset", "stream_gap")
        for offset in range(first, end)
    }
    cursors = conn.execute(text("SELECT topic_id, partition, next_offset FROM stream"))
    return _Stored(
        contents=[(place, content) for place, content, _, _ in scores] + dead,
        scores={place: energy for place, _, energy, _ in scores},
        models={place: model for place, _, _, model in scores},
        dead={place for place, _ in dead},
        gaps=gaps,
        cursors={(row[0], row[1]): row[2] for row in cursors},
    )


def _compare(
    stored: _Stored,
    numbers: Mapping[Place, int],
    journal: Journal,
    weights: Path,
    candidates: Mapping[str, Path],
) -> tuple[int, int]:
    """Energies that are not the picture's own by the model that the row names, and records that took the wrong way."""
    places = [place for place, number in numbers.items() if not is_poison(number)]
    wrong = 0
    for file in {weights, *candidates.values()}:
        by_it = [place for place in places if candidates.get(stored.models[place], weights) == file]
        expected = energies_of([numbers[place] for place in by_it], file)
        found = np.array([stored.scores[place] for place in by_it])
        wrong += int((np.abs(found - expected) > _ENERGY_TOLERANCE).sum())
    misjudged = len(numbers) - len(places)
    misjudged += sum(not is_poison(journal.acknowledged[place]) for place in stored.dead & journal.acknowledged.keys())
    return wrong, misjudged


def _inexact(conn: Connection, stored: _Stored, topic_id: str, ends: Mapping[int, int]) -> list[str]:
    """Where an account does not add up: the product's own, its counters against rows, its cursors against the log."""
    found: list[str] = []
    for line in ledger(conn):
        parts = {name: value for name, value in vars_of(line).items() if name not in _IDENTITY}
        if line.produced != sum(parts.values()):
            found.append(f"ledger of {line.topic_id}/{line.partition}: produced {line.produced}, accounted {parts}")
    rows = Counter(place[:2] for place, _ in stored.contents)
    dead = Counter(place[:2] for place, _ in stored.contents if place in stored.dead)
    gaps = Counter(place[:2] for place in stored.gaps)
    columns = "topic_id, partition, start_offset, next_offset, scored, dead, expired + skipped, holes"
    for row in conn.execute(text(f"SELECT {columns} FROM stream")):
        key = row[0], row[1]
        start, position, scored, letters, gone, holes = row[2:]
        if (scored, letters, gone) != (rows[key] - dead[key], dead[key], gaps[key]):
            found.append(
                f"ledger of {key}: counts scored, dead, gaps as {scored, letters, gone}, the tables hold"
                f" {rows[key] - dead[key], dead[key], gaps[key]}"
            )
        if position - start != scored + letters + gone + holes:
            found.append(f"ledger of {key}: [{start}, {position}) is not {scored} + {letters} + {gone} + {holes}")
        if row[0] == topic_id and position > ends.get(row[1], 0):
            found.append(f"ledger of {key}: stands at {position}, the log ends at {ends.get(row[1], 0)}")
    return found


def vars_of(line: object) -> dict[str, Any]:
    """A slotted dataclass as a dictionary."""
    return {name: getattr(line, name) for name in line.__dataclass_fields__}  # type: ignore[attr-defined]


def _parts(conn: Connection) -> str | None:
    """None where roll-up parts sum to the rows, pooled and by segment; else what they sum to."""
    pooled: Counter[int] = Counter()
    flags = 0
    segments: Counter[str] = Counter()
    query = "SELECT p.reference_id, p.content, s.name FROM roll_up_part p LEFT JOIN segment s ON s.id = p.segment_id"
    for reference, content, segment in conn.execute(text(query)):
        part = decode(bytes(content))
        if segment is None:
            pooled[reference] += part.n
            flags += part.flags
        else:
            segments[segment] += part.n
    query = "SELECT reference_id, count(*) FROM score GROUP BY reference_id"
    rows = {row[0]: row[1] for row in conn.execute(text(query))}
    flagged = conn.scalar(text("SELECT coalesce(sum(is_ood), 0) FROM score"))
    query = "SELECT s.name, count(*) FROM score r JOIN segment s ON s.id = r.segment_id GROUP BY s.name"
    by_segment = {row[0]: row[1] for row in conn.execute(text(query))}
    if pooled == rows and segments == by_segment and flags == flagged:
        return None
    return f"parts sum to {dict(pooled)}, {flags} flags, {dict(segments)}; rows are {rows}, {flagged}, {by_segment}"
