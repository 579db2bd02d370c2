"""A recorded incident before a monitor that tells of it: undisturbed, killed, or with everything away for a while."""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.exc import DBAPIError

from pipeline.records import utc_now
from pipeline.storage.alert_schema import AlertingRow, AlertRow, IncidentEventRow, IncidentRow, OutboxRow
from pipeline.storage.engine import open_database
from pipeline.storage.schema import LeaseRow, MonitorRow, ProcessRow, RollUpPartRow, TransitionRow
from tests.faults.soak.kill_points import Hook
from tests.faults.soak.monitor_points import MONITOR_POINTS, TELLING_POINTS
from tests.faults.soak.workers import Fleet
from tests.incident.scenes import MINUTE, Scene
from tests.incident.stage import LATENESS, Site
from tests.incident.tape import Write, write
from tests.paged.listeners import Listeners
from tests.services.processes import wait_until

#: Everything was recorded a day before: it is told nevertheless.
ALERTS = {"max_page_age_hours": 72}
_DEADLINE_S = 900.0


@dataclass(frozen=True)
class Told:
    """What one run came to, with nothing in it that depends on when it ran."""

    transitions: Sequence[tuple[Any, ...]]
    incidents: Sequence[tuple[Any, ...]]
    events: Sequence[tuple[Any, ...]]
    outbox: Counter[tuple[Any, ...]]  # (place of the event, channel, action)
    waiting: int
    given_up: int
    attempts: int
    kills: int = 0
    kills_at: Counter[str] = field(default_factory=Counter)

    def differences(self, other: "Told") -> list[str]:
        """What is not the same."""
        names = ("transitions", "incidents", "events", "outbox")
        return [name for name in names if getattr(self, name) != getattr(other, name)]


class Stage:
    """One site whose monitors tell the listeners."""

    def __init__(self, site: Site, listeners: Listeners | None, seed: int) -> None:
        more = {"alerts": ALERTS, **({} if listeners is None else listeners.settings())}
        self._site = Site(site.home, site.model, site.database, site.source, more)
        self._rng = random.Random(seed)
        self._engine = open_database(site.database)
        points = MONITOR_POINTS + TELLING_POINTS
        self._fleet = self._site.fleet("monitor", rng=self._rng, points=points)

    def play(
        self,
        tape: Sequence[Write],
        *,
        kills: int = 0,
        pause_s: float = 0.05,
        at: Callable[[int], None] = lambda number: None,
    ) -> Told:
        """All of the tape, then wait until everything is told. `at` is called before each of its transactions."""
        fleet = self._fleet
        try:
            fleet.start("monitor", hook=self._armed() if kills else None)
            for number, one in enumerate(tape):
                at(number)
                _again(lambda one=one: write(self._engine, one, now=utc_now()))  # type: ignore[misc]
                if fleet.kills < kills * (number + 1) // len(tape) and not self._dies_telling():
                    time.sleep(self._rng.uniform(0, pause_s))
                    fleet.kill(self._rng.choice(fleet.alive() or list(fleet.members.values())))
                self._until(self._folded, "all parts folded", armed=bool(kills))
            at(len(tape))
            while fleet.kills < kills:
                self._until(self._is_up, "a monitor", armed=False)
                time.sleep(self._rng.uniform(0, 1.0))
                fleet.kill(self._rng.choice(list(fleet.members.values())))
            self._until(lambda: self._judged(tape), "all judged", armed=False)
            self._until(self._all_told, "all told", armed=False)
            self._until(self._are_known, "all monitors up", armed=False)  # one that begins knows no SIGTERM yet
            fleet.stop()
        finally:
            fleet.abandon()
        assert not fleet.failures, "\n".join(fleet.failures)
        told = told_of(self._engine, fleet)
        self._engine.dispose()
        return told

    def _dies_telling(self) -> bool:
        """There is little to tell: whoever is to die of that is left alive until then."""
        hooks = [member.hook for member in self._fleet.alive()]
        return any(hook is not None and hook.point in TELLING_POINTS for hook in hooks)

    def _armed(self) -> Hook:
        """Half of them die of what they tell, the others of what they store."""
        if self._rng.random() < 0.5:
            return Hook(self._rng.choice(TELLING_POINTS), 1)
        return self._fleet.armed()

    def _until(self, condition: Callable[[], bool], what: str, *, armed: bool) -> None:
        """The dead are replaced meanwhile, and a database that is away is no answer."""

        def holds() -> bool:
            for slot, member in list(self._fleet.members.items()):
                if not member.is_alive:
                    self._fleet.bury(member)
                    self._fleet.start(slot, hook=self._armed() if armed and self._rng.random() < 0.5 else None)
                    self._expire_leases()
            try:
                return condition()
            except DBAPIError:
                return False

        wait_until(holds, what, deadline_s=_DEADLINE_S)

    def _folded(self) -> bool:
        with self._engine.connect() as conn:
            return conn.scalar(select(RollUpPartRow.id).limit(1)) is None

    def _is_up(self) -> bool:
        return bool(self._fleet.alive())

    def _are_known(self) -> bool:
        """Whether every monitor has shown a sign of life of its own."""
        with self._engine.connect() as conn:
            names = conn.scalars(select(ProcessRow.name)).all()
        return {str(member.pid) for member in self._fleet.alive()} <= {name.rpartition(":")[2] for name in names}

    def _judged(self, tape: Sequence[Write]) -> bool:
        """Every minute that a live monitor would have judged by the newest image."""
        due = tape[-1].newest - LATENESS - MINUTE
        with self._engine.connect() as conn:
            until = conn.scalar(select(MonitorRow.evaluated_until))
        return until is not None and until >= due

    def _all_told(self) -> bool:
        with self._engine.connect() as conn:
            left = select(func.count()).where(OutboxRow.delivered_at.is_(None), OutboxRow.given_up_at.is_(None))
            known = conn.scalar(select(AlertingRow.transition_id))
            newest = conn.scalar(select(func.max(TransitionRow.id)))
            return conn.scalar(left) == 0 and known == newest

    def _expire_leases(self) -> None:
        """As the minute would that a dead monitor's lease lasts on SQLite."""
        with contextlib.suppress(DBAPIError), self._engine.begin() as conn:
            conn.execute(delete(LeaseRow))


def told_of(engine: Engine, fleet: Fleet | None = None) -> Told:
    """What is stored, with places in their order instead of keys and times of processing."""
    with engine.connect() as conn:
        transitions = conn.execute(
            select(
                TransitionRow.id,
                TransitionRow.tick,
                TransitionRow.stream,
                TransitionRow.from_state,
                TransitionRow.state,
                TransitionRow.onset,
                TransitionRow.provisional,
            ).order_by(TransitionRow.id)
        ).all()
        incidents = conn.execute(
            select(IncidentRow.id, IncidentRow.kind, IncidentRow.onset, IncidentRow.state, IncidentRow.peak)
            .add_columns(IncidentRow.provisional, IncidentRow.resolved_at.is_not(None))
            .order_by(IncidentRow.id)
        ).all()
        event = IncidentEventRow
        events = conn.execute(
            select(event.id, event.incident_id, event.transition_id, event.kind, AlertRow.signal, AlertRow.segment)
            .add_columns(event.from_state, event.to_state, event.who, event.why)
            .join(AlertRow, AlertRow.id == event.alert_id, isouter=True)
            .order_by(event.id)
        ).all()
        outbox = conn.execute(select(OutboxRow.__table__).order_by(OutboxRow.id)).all()
    place = {row.id: i for i, row in enumerate(incidents)}
    moved = {row.id: tuple(row)[1:4] for row in transitions}
    order = {row.id: i for i, row in enumerate(events)}
    return Told(
        [tuple(row)[1:] for row in transitions],
        [tuple(row)[1:] for row in incidents],
        [(place[row.incident_id], moved.get(row.transition_id), *tuple(row)[3:]) for row in events],
        Counter((order[row.event_id], row.channel, row.action) for row in outbox),
        sum(row.delivered_at is None and row.given_up_at is None for row in outbox),
        sum(row.given_up_at is not None for row in outbox),
        sum(row.attempts for row in outbox),
        0 if fleet is None else fleet.kills,
        Counter() if fleet is None else Counter(fleet.kills_at),
    )


def onset_at(tape: Sequence[Write], scene: Scene, minutes: float) -> int:
    """The first transaction so many minutes after the scene's onset."""
    return next(i for i, one in enumerate(tape) if one.newest >= scene.onset + minutes * MINUTE)


def _again(attempt: Callable[[], None]) -> None:
    """As a worker does while the database is away."""

    def done() -> bool:
        try:
            attempt()
        except DBAPIError:
            time.sleep(0.2)
            return False
        return True

    wait_until(done, "the database", deadline_s=_DEADLINE_S)
