"""Settings and a file of ground truth → stored labels, and what they say of the model."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, Engine

from pipeline.alerts.accuracy import Labelled, LabelledCount, from_labels
from pipeline.assembly.parts import existing_database
from pipeline.ingest.labels_file import BadLine, GivenLabel
from pipeline.settings import Settings
from pipeline.storage.engine import reading
from pipeline.storage.labels import (
    Met,
    begin_labels,
    end_labels,
    give_labels,
    meet_scores,
    met_labels,
    put_labels,
    unknown_ids,
)
from pipeline.storage.monitoring import one_deployment
from pipeline.storage.references import classes_of
from pipeline.storage.ticks import segment_names

_CHUNK = 5_000  # lines or rows at a time
_LISTED = 10  # of what failed
_BAD_LINES = 1_000  # kept to be listed


@dataclass(slots=True)
class Given:
    """What became of a file of labels."""

    lines: int = 0
    images: int = 0  # that got a label: several may have one id
    unknown_ids: int = 0
    first_unknown: list[str] = field(default_factory=list)
    unknown_classes: Counter[str] = field(default_factory=Counter)  # images by label
    bad_lines: int = 0
    first_bad: list[BadLine] = field(default_factory=list)
    accuracy: Labelled | None = None

    @property
    def failed(self) -> bool:
        """Whether something could not be used."""
        return bool(self.unknown_ids or self.unknown_classes or self.bad_lines)


def take_labels(
    settings: Settings,
    lines: Iterable[GivenLabel | BadLine],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Given:
    """Store the labels of scored images with start <= event time < end. Given again, they change nothing.

    Raises UsageError for an unknown deployment.
    """
    given = Given()
    with existing_database(settings) as engine:
        # On SQLite a reader may fill temporary tables; PostgreSQL allows that only to those who may write.
        own = reading(engine) if engine.dialect.name == "sqlite" else engine
        with own.connect() as conn:
            key = None if settings.deployment is None else one_deployment(conn, settings.deployment).id
            begin_labels(conn)
            try:
                _read(conn, lines, given, progress)
                meet_scores(conn, deployment_id=key, start=start, end=end)
                given.unknown_ids, given.first_unknown = unknown_ids(conn, limit=_LISTED)
                _store(engine, conn, given, settings.clock.now())
            finally:
                end_labels(conn)
    return given


def _read(
    conn: Connection, lines: Iterable[GivenLabel | BadLine], given: Given, progress: Callable[[int], None]
) -> None:
    rest = iter(lines)
    while chunk := list(islice(rest, _CHUNK)):
        good = [(line.id, line.label) for line in chunk if isinstance(line, GivenLabel)]
        bad = [line for line in chunk if isinstance(line, BadLine)]
        give_labels(conn, good)
        given.lines += len(chunk)
        given.bad_lines += len(bad)
        given.first_bad += bad[: _LISTED - len(given.first_bad)]
        progress(len(chunk))


def _store(engine: Engine, conn: Connection, given: Given, now: datetime) -> None:
    """Chunk by chunk in transactions of their own: no worker waits for a large file."""
    classes, names = classes_of(conn), dict[int, dict[int, str]]()
    counts: Counter[tuple[str, bool, bool]] = Counter()
    for chunk in met_labels(conn, chunk=_CHUNK):
        known: list[tuple[Met, bool]] = []
        for met in chunk:
            of = classes[met.reference_id]
            if met.label not in of:
                given.unknown_classes[met.label] += 1
                continue
            if met.deployment_id not in names:
                names[met.deployment_id] = segment_names(conn, met.deployment_id)
            right = of[met.class_index] == met.label
            known.append((met, right))
            counts[names[met.deployment_id][met.segment_id], bool(met.is_ood), right] += 1
        with engine.begin() as writing:
            put_labels(writing, known, now=now)
        given.images += len(known)
    by_part = {part[:2] for part in counts}
    tallies = [
        LabelledCount(*part, counts[*part, True] + counts[*part, False], counts[*part, True]) for part in by_part
    ]
    given.accuracy = from_labels(tallies, "labels")
