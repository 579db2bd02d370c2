"""Settings and a question → what the detector would have said of stored minutes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from pipeline.assembly.detecting import budget_of, stored_null
from pipeline.errors import RefusedError, UsageError
from pipeline.records import Reference
from pipeline.settings import Settings
from pipeline.shift.budget import MINUTES_PER_DAY, Budget, Thresholds
from pipeline.shift.detector import Detector
from pipeline.shift.folding import floor
from pipeline.shift.recount import Recount
from pipeline.shift.replay import run
from pipeline.shift.tick import Tick
from pipeline.shift.verdict import StreamVerdict
from pipeline.stages.ticking import own_ticks, recounted_ticks
from pipeline.storage.baselines import newest_baseline
from pipeline.storage.engine import reading
from pipeline.storage.minutes import references_within
from pipeline.storage.monitoring import Watched, one_deployment, read_position
from pipeline.storage.references import find_reference, reference_by_key
from pipeline.storage.ticks import first_start


@dataclass(frozen=True, slots=True)
class Question:
    """Which minutes, and what is to be other than it is; None: as the monitor has it."""

    start: datetime
    end: datetime
    budget_days: float | None = None
    warning: float | None = None
    critical: float | None = None
    reference: str | None = None
    baseline: str | None = None  # none, or a version


class Replay:
    """The detector over stored minutes, read as it goes, in constant memory.

    Raises UsageError for an unknown deployment, reference or baseline and levels out of order, RefusedError where
    nothing is stored, ticks of one reference cannot be judged by another, or normal traffic may reach the warning
    level.
    """

    def __init__(self, engine: Engine, settings: Settings, question: Question) -> None:
        self._engine = engine
        with reading(engine).connect() as conn:
            self._deployment = one_deployment(conn, settings.deployment)
            current = reference_by_key(conn, self._deployment.reference_id)
            self._reference = (
                current
                if question.reference is None
                else find_reference(conn, name=question.reference, model_id=current.model_id)
            )
            self.start, self.end = _stored(conn, self._deployment, question)
            version = _version(conn, self._deployment, self._reference, question.baseline)
            null = stored_null(conn, self._deployment.id, _key(self._reference), version)
            present = references_within(conn, self._deployment.id, self.start, self.end)
            others = [reference_by_key(conn, key) for key in present if key != self._reference.id]
        self._recounts = {} if question.reference is None else self._recounted(others)
        if not all(recount.same_features for recount in self._recounts.values()):
            null = replace(null, coverage=None)
        self._detector = Detector(null, budget=_budget(settings, question), thresholds=_thresholds(settings, question))
        self.notes = self._notes(question, others, version)

    def verdicts(self) -> Iterator[tuple[Tick, list[StreamVerdict]]]:
        """After each tick, in order."""
        where = self._engine, self._deployment.id
        ticks = (
            recounted_ticks(*where, self._recounts, self.start, self.end)
            if self._recounts
            else own_ticks(*where, _key(self._reference), self.start, self.end)
        )
        return run(ticks, self._detector)

    def uncertainty(self) -> Iterator[str]:
        """Afterwards: how far the counts under another reference can be trusted."""
        for recount in self._recounts.values():
            if recount.images and recount.of.id != self._reference.id:
                yield (
                    f"flags under {self._reference.name} of {recount.images:,} images scored with {recount.of.name} are"
                    f" counted from 256 fine bins: at most {recount.uncertain:,}"
                    f" ({recount.uncertain / recount.images:.2%}) of them are on the wrong side of the threshold"
                )

    def _recounted(self, others: Sequence[Reference]) -> dict[int, Recount]:
        return {_key(of): Recount(of, self._reference) for of in (self._reference, *others)}

    def _notes(self, question: Question, others: Sequence[Reference], version: int | None) -> list[str]:
        whose = "without a baseline" if version is None else f"with baseline {version}"
        notes = [
            f"{self._deployment.name}, reference {self._reference.name}, {whose}: {_iso(self.start)} to"
            f" {_iso(self.end)}, beginning with no evidence"
        ]
        if self._detector.provisional:
            notes.append("all that is raised so would be provisional, shown and never paged")
        if others and question.reference is None:
            names = ", ".join(one.name for one in others)
            notes.append(f"minutes scored with {names} are left out; --reference judges all by one")
        if others and question.reference is not None and self._detector.null.coverage is None:
            notes.append("coverage is left out: the references project features differently, or have no blocks")
        return notes


def _stored(conn: Connection, deployment: Watched, question: Question) -> tuple[datetime, datetime]:
    start, end = (floor(at.astimezone(UTC), 1) for at in (question.start, question.end))
    if not start < end:
        raise UsageError(f"--from {_iso(start)} must lie before --to {_iso(end)}")
    position, first = read_position(conn, deployment.id), first_start(conn, deployment.id, 1)
    until = None if position is None else position.evaluated_until
    if first is None or until is None or not max(start, first) < min(end, until):
        stored = "none that is judged yet" if first is None or until is None else f"{_iso(first)} to {_iso(until)}"
        raise RefusedError(
            f"from {_iso(start)} to {_iso(end)} no evaluated minute of deployment {deployment.name} is stored;"
            f" there are: {stored}"
        )
    return max(start, first), min(end, until)


def _version(conn: Connection, deployment: Watched, reference: Reference, wanted: str | None) -> int | None:
    if wanted == "none":
        return None
    if wanted is None:
        return newest_baseline(conn, deployment.id, _key(reference))
    if not wanted.isdecimal():
        raise UsageError(f"--baseline {wanted!r}: write none, or the number of a version of `oodwatch baseline show`")
    return int(wanted)


def _budget(settings: Settings, question: Question) -> Budget:
    if question.budget_days is None:
        return budget_of(settings)
    return Budget(minutes=question.budget_days * MINUTES_PER_DAY)


def _thresholds(settings: Settings, question: Question) -> Thresholds:
    usual = settings.detector
    return Thresholds(
        usual.warning if question.warning is None else question.warning,
        usual.critical if question.critical is None else question.critical,
    )


def _key(reference: Reference) -> int:
    assert reference.id is not None
    return reference.id


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%MZ}"
