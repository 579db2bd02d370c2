"""The monitor: parts → ticks → detector → verdicts → alerts. Scheduled, and safe to run again at any moment.

    elect       one monitor leads a deployment; two at once would do no harm
    fold        parts become ticks, in the transaction that deletes them
    evaluate    revised ticks are replayed, ticks that are due go through the detector, silence is judged
    alert       what changed its state becomes an incident, and who is to hear of it is written down; so does what
                is wrong with the pipeline itself, what goes on for long, and once a day what was
    roll up     complete ticks become ticks of 5 minutes, an hour, a day
    tidy        what is too old goes

Every step is a loop of short transactions that read where they stand from the database: whatever is missed
or cut off is made good by the next run, in order.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Engine

from pipeline.alerts.incident import Event
from pipeline.shift.folding import LEVELS
from pipeline.stages.alerting import Alerting, look, take_in
from pipeline.stages.digesting import tell_digest
from pipeline.stages.folding import Folded, fold_parts
from pipeline.stages.judging import (
    Judged,
    NewEvaluator,
    Patience,
    judge_due,
    judge_revised,
    judge_silence,
    withdraw_replaced,
)
from pipeline.stages.rolling import delete_old_ticks, roll_up
from pipeline.storage.engine import reading
from pipeline.storage.leadership import Leader
from pipeline.storage.monitoring import (
    Superseded,
    Watched,
    begin_monitoring,
    read_position,
    watched_deployments,
)
from pipeline.storage.ticks import TickRetention
from pipeline.telemetry.monitoring import Work

logger = logging.getLogger(__name__)

_PARTS = 1_000  # folded in one transaction


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, how much to keep."""

    patience: Patience
    keep: TickRetention
    max_segments: int = 1_000


class Monitor:
    """Runs all stages for every deployment that it leads."""

    def __init__(
        self,
        engine: Engine,
        leader: Leader,
        new_evaluator: NewEvaluator,
        limits: Limits,
        alerting: Alerting,
        *,
        clock: Callable[[], datetime],
        deployment: str | None = None,
        report: Callable[[Judged], None] = lambda judged: None,
        beat: Callable[[], None] = lambda: None,
        going: Callable[[], bool] = lambda: True,
    ) -> None:
        self._engine = engine
        self._leader = leader
        self._new_evaluator = new_evaluator
        self._limits = limits
        self._clock = clock
        self._deployment = deployment  # None: all
        self._alerting = alerting
        self._report = report  # hears of each judgement after its commit
        self._beat = beat
        self._going = going  # false: end after the transaction that runs now
        self.work = Work()

    def run(self) -> None:
        """Everything that is due now. Raises DBAPIError where the database does not answer: run again."""
        leading = self._elect()
        for deployment in leading:
            self._fold(deployment)
            self._evaluate(deployment)
            self._alert(deployment)
            self._roll_up(deployment)
            self._tidy(deployment)
        self.work.runs["ok"] += 1
        self.work.run_at = self._clock()

    def _elect(self) -> list[Watched]:
        with reading(self._engine).connect() as conn:
            known = watched_deployments(conn, self._deployment)
        leading = [deployment for deployment in known if self._leader.leads(deployment.id)]
        self.work.deployments = len(known)
        self.work.leading = frozenset(deployment.name for deployment in leading)
        return leading

    def _fold(self, deployment: Watched) -> None:
        with reading(self._engine).connect() as conn:
            new = read_position(conn, deployment.id) is None
        if new:
            with self._engine.begin() as conn:
                begin_monitoring(conn, deployment.id, now=self._clock())

        def fold() -> bool:
            folded = fold_parts(
                self._engine,
                deployment,
                limit=_PARTS,
                max_segments=self._limits.max_segments,
                now=self._clock(),
            )
            self._count(folded)
            return folded.parts == _PARTS

        self._until_done(fold)

    def _evaluate(self, deployment: Watched) -> None:
        engine, new_evaluator, patience = self._engine, self._new_evaluator, self._limits.patience

        def revised() -> bool:
            return self._tell(judge_revised(engine, deployment, new_evaluator, now=self._clock()))

        def due() -> bool:
            return self._tell(judge_due(engine, deployment, new_evaluator, patience, now=self._clock()))

        def silence() -> bool:
            self._tell(judge_silence(engine, deployment, new_evaluator, pace=patience.pace, now=self._clock()))
            return False

        def replaced() -> bool:
            self._tell(withdraw_replaced(engine, deployment, now=self._clock()))
            return False

        for stage in (revised, due, silence, replaced):
            self._until_done(stage)
        with reading(engine).connect() as conn:
            position = read_position(conn, deployment.id)
        if position is not None and position.watermark is not None:
            self.work.watermarks[deployment.name] = position.watermark

    def _alert(self, deployment: Watched) -> None:
        def new() -> bool:
            return self._count_events(take_in(self._engine, deployment, self._alerting, now=self._clock()))

        def goes_on() -> bool:
            self._count_events(look(self._engine, deployment, self._alerting, now=self._clock()))
            return False

        def day() -> bool:
            if tell_digest(self._engine, deployment, self._alerting, now=self._clock()):
                logger.info("the digest of %s is to be told", deployment.name)
            return False

        for stage in (new, goes_on, day):
            self._until_done(stage)

    def _roll_up(self, deployment: Watched) -> None:
        def level(minutes: int) -> bool:
            return roll_up(self._engine, deployment, minutes, now=self._clock())

        for minutes in LEVELS[1:]:
            self._until_done(partial(level, minutes))

    def _tidy(self, deployment: Watched) -> None:
        keep, revise = self._limits.keep, self._limits.patience.revise

        def chunk() -> bool:
            return delete_old_ticks(self._engine, deployment, keep, revise=revise, now=self._clock()) > 0

        self._until_done(chunk)

    def _until_done(self, once: Callable[[], bool]) -> None:
        """Repeat a transaction while there is more; where another monitor was quicker, on what it has left."""
        more = True
        while more and self._going():
            self._beat()
            try:
                more = once()
            except Superseded:
                self.work.superseded += 1
                logger.info("another monitor works on the same deployment; reading anew")

    def _tell(self, judged: list[Judged] | None) -> bool:
        """Report what has just been committed; whether there was anything."""
        for line in judged or ():
            self.work.ticks += line.kind == "tick"
            self.work.transitions += len(line.transitions)
            self._report(line)
        return judged is not None

    def _count_events(self, events: list[Event] | None) -> bool:
        """Log what happened to incidents; whether there was anything to take in."""
        for event in events or ():
            self.work.incident_events += 1
            logger.info("incident %d: %s %s: %s", event.incident_id, event.kind, event.to_state or "", event.why)
        return events is not None

    def _count(self, folded: Folded) -> None:
        self.work.parts += folded.parts
        self.work.images += folded.images
        self.work.late_images += folded.late_images
        self.work.too_late_images += folded.too_late_images
        self.work.revised_ticks += folded.revised
        if folded.late_parts:
            logger.info(
                "%d images came after their ticks were evaluated; %d ticks are revised%s",
                folded.late_images,
                folded.revised,
                f", {folded.too_late_images} images too late for the evidence" if folded.too_late_images else "",
            )
