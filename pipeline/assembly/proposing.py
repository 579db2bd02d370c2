"""Composition: a window that a person looks at on a page → a baseline, what it raises, and its acceptance."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from dashboard.background import TimeIsUp
from dashboard.proposals import Proposal
from dashboard.windows import Window
from pipeline.assembly.accepting import (
    accepted_window,
    made_from,
    paging_or_forced,
    quiet_or_forced,
    revoke,
    stored_minutes,
)
from pipeline.assembly.deciding import operator_settings
from pipeline.assembly.detecting import budget_of, thresholds_of
from pipeline.assembly.parts import existing_database
from pipeline.errors import RefusedError, UsageError
from pipeline.settings import Settings
from pipeline.shift.detector import Detector
from pipeline.shift.null import Null
from pipeline.shift.replay import Change, changes, run
from pipeline.shift.tick import Tick
from pipeline.stages.ticking import own_ticks
from pipeline.storage.baselines import save_baseline
from pipeline.storage.engine import reading
from pipeline.storage.monitoring import one_deployment
from pipeline.storage.references import reference_by_key

_JUDGED = timedelta(days=7)  # of stored minutes, the newest
_LEARNING = 0.4  # of the whole work

Watched = Callable[[float, str], None]


class Proposals:
    """Reads over the pages' login, writes over the operator's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def propose(self, deployment: str, start: datetime, end: datetime, *, watch: Watched) -> Proposal:
        """Learn from the window, and judge the newest stored week with that.

        Raises as `accepting.accept_baseline` does, and TimeIsUp while it learns.
        """
        settings = self._of(deployment)
        with existing_database(settings) as engine:
            with reading(engine).connect() as conn:
                watched = one_deployment(conn, deployment)
                reference = reference_by_key(conn, watched.reference_id)
                source, notes = accepted_window(conn, watched, reference, start, end)
                against = quiet_or_forced(conn, source, force=True)
                line, made, null = made_from(
                    conn,
                    source,
                    thresholds_of(settings),
                    name="",
                    reason="",
                    now=settings.clock.now(),
                    step=lambda share: watch(_LEARNING * share, "learning what is normal"),
                )
                against += paging_or_forced(conn, source, null, force=True)
                stored = stored_minutes(conn, watched, watched.reference_id)
            assert stored is not None  # else there is no window
            judged = Window(max(stored[0], stored[1] - _JUDGED), stored[1])
            ticks = own_ticks(engine, watched.id, watched.reference_id, *judged)
            until, said = self._judge(ticks, null, judged, watch)
        spoken = tuple(text.removesuffix("; accepted all the same") for text in against)
        key = watched.reference_id
        return Proposal(deployment, key, line, made, spoken, tuple(notes), judged, until, tuple(said))

    def accept(self, proposal: Proposal, *, who: str, why: str, force: bool) -> str:
        """Store what was proposed.

        Raises RefusedError where something speaks against it and that is not accepted with `force`, another reference
        scores now, or somebody else was quicker; UsageError without author or reason.
        """
        if not (who.strip() and why.strip()):
            raise UsageError("Say why this traffic is normal, for those who come later.")
        if proposal.against and not force:
            raise RefusedError(
                f"Nothing was stored: {'; '.join(proposal.against)}. Say that it is to count all the same, or choose"
                " another window."
            )
        line = replace(proposal.line, name=who, reason=why, accepted_at=self._settings.clock.now())
        with existing_database(operator_settings(self._of(proposal.deployment))) as engine, engine.begin() as conn:
            watched = one_deployment(conn, proposal.deployment)
            if watched.reference_id != proposal.reference_id:
                raise RefusedError("Nothing was stored: another reference scores now. Look at the window again.")
            save_baseline(conn, watched.id, watched.reference_id, line, proposal.baseline)
        return f"Baseline {line.version} counts. The monitor takes it up with its next look, and begins anew."

    def revoke(self, deployment: str, *, who: str) -> str:
        """Let the baseline that counts no longer do so. Raises RefusedError where there is none."""
        version, left = revoke(operator_settings(self._of(deployment)), name=who)
        now = "none counts now, and what is raised is provisional" if left is None else f"baseline {left} counts again"
        return f"Baseline {version} is revoked: {now}."

    def _of(self, deployment: str) -> Settings:
        return self._settings.model_copy(update={"deployment": deployment})

    def _judge(
        self, ticks: Iterator[Tick], null: Null, judged: Window, watch: Watched
    ) -> tuple[datetime, list[Change]]:
        detector = Detector(null, budget=budget_of(self._settings), thresholds=thresholds_of(self._settings))
        until, said = judged.start, []

        def followed() -> Iterator[Tick]:
            nonlocal until
            for tick in ticks:
                until = tick.start
                done = (tick.start - judged.start) / judged.length
                watch(_LEARNING + (1 - _LEARNING) * done, "judging stored minutes with it")
                yield tick
            until = judged.end

        try:
            for change in changes(run(followed(), detector)):
                said.append(change)
        except TimeIsUp:
            pass  # what was judged until then is told, and how far that reaches
        return until, said
