"""One scene played to the end: a log, a database, and a worker and a monitor as processes between them.

The clock follows the images: the next minute is sent when the worker has stored all but the last ones and
the monitor has evaluated them, so that a slow machine changes nothing but how long it takes.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from pipeline.assembly.sources import open_appender
from pipeline.records import utc_now
from pipeline.storage.engine import open_database
from pipeline.storage.schema import MonitorRow, ScoreRow, StreamRow, TransitionRow, VerdictRow
from tests.faults.soak.monitor_points import MONITOR_POINTS, MonitorPoint
from tests.faults.soak.workers import Fleet, Member
from tests.incident.scenes import MINUTE, NORMAL, Scene
from tests.services.processes import wait_until

#: How far the log may run ahead of the worker and, in minutes, of the monitor.
_AHEAD_MINUTES = 2
_DEADLINE_S = 300.0
LATENESS = timedelta(seconds=30)  # a minute is evaluated so long after its end: the product's default


@dataclass(frozen=True)
class Change:
    """A stored transition."""

    tick: datetime
    stream: str
    before: str
    after: str
    log_evidence: float
    onset: datetime | None
    share: float | None
    low: float | None
    high: float | None
    k: float | None
    n: float | None
    leading: str

    @property
    def decided(self) -> datetime:
        """The event time at which a live monitor says so."""
        return self.tick + MINUTE + LATENESS

    @property
    def is_raise(self) -> bool:
        """Up, from whatever it was."""
        ladder = ("no_data", "ok", "shift", "warning", "critical")
        return self.after in ladder[2:] and ladder.index(self.after) > ladder.index(self.before)


@dataclass(frozen=True)
class Played:
    """What a scene came to."""

    changes: tuple[Change, ...]
    #: Log evidence of each stream at the first look at which a segment was at warning or above.
    evidence: Mapping[str, float]
    printed: tuple[dict[str, Any], ...]  # the transitions, as the monitor said them on its stdout
    images: int
    normal_rate: float  # flagged share of the normal pictures, each counted once


@dataclass(frozen=True)
class Site:
    """Where everything is; the database holds a reference of the model."""

    home: Path
    model: Path
    database: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # more of the monitor's, by section

    def play(self, scene: Scene, pools: Mapping[str, Sequence[bytes]]) -> Played:
        """Send it all, wait until it is judged, end everything in order."""
        engine = open_database(self.database)
        appender = open_appender(self.source, {}, partitions=None, timeout_s=30, on_refused=_refuse)
        worker = self.fleet("worker", "--source", self.source, "--model", str(self.model))
        monitor = self.fleet("monitor")
        evidence: dict[str, float] = {}
        try:
            members = [fleet.start(role) for role, fleet in (("worker", worker), ("monitor", monitor))]
            for minute in range(scene.minutes):
                appender.append(scene.records(minute, pools))
                self._follow(engine, scene, minute, members)
                evidence = evidence or _evidence_at_warning(engine)
            self._stored(engine, scene.minutes * scene.per_minute, members)
            for member in members:
                member.terminate()
                assert member.wait() == 0, member.last_words()
            output, tail = members[1].output.read_text(), self.judge_the_rest()
        finally:
            for fleet in (worker, monitor):
                fleet.abandon()
            appender.close()
        *_, counted = _lines(members[0].output.read_text())
        changes, rate = changes_of(engine), _normal_rate(engine)
        engine.dispose()
        printed = tuple(line for line in _lines(output + tail) if "stream" in line)
        return Played(changes, evidence, printed, counted["scored"], rate)

    def judge_the_rest(self) -> str:
        """What is not due yet, by a run whose clock says that no more will come; what it printed."""
        once = self.fleet("monitor", "--once", "--now", (utc_now() + timedelta(hours=1)).isoformat()).start("once")
        assert once.wait(_DEADLINE_S) == 0, once.last_words()
        return once.output.read_text()

    def fleet(
        self,
        command: str,
        *arguments: str,
        rng: random.Random | None = None,
        points: tuple[MonitorPoint, ...] = MONITOR_POINTS,
    ) -> Fleet:
        """Processes of one command on this site."""
        return Fleet(
            [command, *arguments, "--database", self.database, "--http", "off", "--log-format", "text", "--json"],
            self.home,
            {
                "monitor": {"interval_seconds": 0.1, "idle_seconds": 600},
                "samples": {"pictures": False},
                **self.settings,
            },
            static=False,
            rng=rng or random.Random(0),
            points=points,
            passages=(1, 7),
        )

    def _follow(self, engine: Engine, scene: Scene, minute: int, members: Sequence[Member]) -> None:
        """Until the worker and the monitor are near."""
        near = minute + 1 - _AHEAD_MINUTES
        if near <= 0:
            return
        self._stored(engine, near * scene.per_minute, members)

        def evaluated() -> bool:
            until = _evaluated_until(engine)
            _alive(members)
            return until is not None and until >= scene.begin + (near - 1) * MINUTE

        if near > 1:
            wait_until(evaluated, f"minute {near - 1} of the scene judged", deadline_s=_DEADLINE_S)

    def _stored(self, engine: Engine, images: int, members: Sequence[Member]) -> None:
        def stored() -> bool:
            _alive(members)
            with engine.connect() as conn:
                return (conn.scalar(select(func.sum(StreamRow.scored + StreamRow.dead))) or 0) >= images

        wait_until(stored, f"{images:,} images stored", deadline_s=_DEADLINE_S)


def changes_of(engine: Engine) -> tuple[Change, ...]:
    """All transitions, in the order of their ticks."""
    columns = (
        TransitionRow.tick,
        TransitionRow.stream,
        TransitionRow.from_state,
        TransitionRow.state,
        TransitionRow.log_evidence,
        TransitionRow.onset,
        TransitionRow.share,
        TransitionRow.low,
        TransitionRow.high,
        TransitionRow.k,
        TransitionRow.n,
        TransitionRow.leading,
    )
    with engine.connect() as conn:
        rows = conn.execute(select(*columns).order_by(TransitionRow.tick, TransitionRow.stream)).all()
    return tuple(Change(*tuple(row)) for row in rows)


def _normal_rate(engine: Engine) -> float:
    pictures = select(ScoreRow.id, ScoreRow.is_ood).where(ScoreRow.id.startswith(f"{NORMAL}/")).distinct()
    with engine.connect() as conn:
        flags: list[bool] = [row.is_ood for row in conn.execute(pictures)]
    return sum(flags) / len(flags)


def _evidence_at_warning(engine: Engine) -> dict[str, float]:
    with engine.connect() as conn:
        rows = conn.execute(select(VerdictRow.stream, VerdictRow.state, VerdictRow.log_evidence)).all()
    raised = any(row.stream.startswith("segment:") and row.state in {"warning", "critical"} for row in rows)
    return {row.stream: row.log_evidence for row in rows} if raised else {}


def _evaluated_until(engine: Engine) -> datetime | None:
    with engine.connect() as conn:
        return conn.scalar(select(MonitorRow.evaluated_until))


def _alive(members: Sequence[Member]) -> None:
    for member in members:
        assert member.is_alive, f"{member.slot} has ended: {member.last_words()}"


def _lines(output: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in output.splitlines() if line.startswith("{"))


def _refuse(record: object, why: str) -> None:
    raise AssertionError(f"the log refuses a record: {why}")
