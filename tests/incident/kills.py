"""Monitors killed with -9 while they work through what a worker wrote: the outcome must be the undisturbed one."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, select

from pipeline.records import utc_now
from pipeline.storage.schema import LeaseRow, RollUpPartRow
from tests.faults.soak.workers import Fleet
from tests.incident.stage import Site
from tests.incident.tape import Write, write
from tests.monitored import everything
from tests.services.processes import wait_until

Rows = dict[str, list[tuple[Any, ...]]]
_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Survived:
    """How often monitors died, where, and what they left."""

    kills: int
    kills_at: Counter[str]
    rows: Rows

    def differences(self, other: Rows) -> list[str]:
        """What is not row by row the same, table by table, with the first row that is not in both."""
        found = []
        for table, rows in self.rows.items():
            odd = sorted({*map(repr, rows)} ^ {*map(repr, other[table])})
            if rows != other[table]:
                found.append(f"{table}: {len(odd)} rows differ, as {odd[0][:500] if odd else 'in their number'}")
        return found


def work_through(
    site: Site,
    engine: Engine,
    tape: Sequence[Write],
    *,
    kills: int,
    monitors: int = 1,
    rng: random.Random,
    pause_s: float = 0.0,
) -> Survived:
    """Play the tape to monitors and kill them on the way, at least so many times.

    Half of the lives are armed to die at a named point. The others are killed at any moment, up to `pause_s`
    after they were given something to do, as often as is needed on the way.
    """
    fleet = site.fleet("monitor", rng=rng)
    try:
        for i in range(monitors):
            fleet.start(f"monitor-{i + 1}", hook=fleet.armed() if kills else None)
        for number, one in enumerate(tape, 1):
            write(engine, one, now=utc_now())
            if fleet.kills < kills * number // len(tape):
                time.sleep(rng.uniform(0, pause_s))
                fleet.kill(rng.choice(fleet.alive() or list(fleet.members.values())))
            _wait_until_folded(engine, fleet, armed=bool(kills))
        while fleet.kills < kills:
            fleet.refill(armed_share=0.0)
            fleet.kill(rng.choice(list(fleet.members.values())))
    finally:
        fleet.abandon()
    assert not fleet.failures, "\n".join(fleet.failures)
    _expire_leases(engine)
    site.judge_the_rest()
    return Survived(fleet.kills, fleet.kills_at, everything(engine))


def _wait_until_folded(engine: Engine, fleet: Fleet, *, armed: bool) -> None:
    """The dead are replaced until nothing is left to fold."""

    def folded() -> bool:
        if len(fleet.alive()) < len(fleet.members):
            fleet.refill(armed_share=0.5 if armed else 0.0)
            _expire_leases(engine)
        with engine.connect() as conn:
            return conn.scalar(select(RollUpPartRow.id).limit(1)) is None

    wait_until(folded, "all parts folded", deadline_s=_DEADLINE_S)


def _expire_leases(engine: Engine) -> None:
    """As the minute would that a dead monitor's lease lasts on SQLite."""
    with engine.begin() as conn:
        conn.execute(delete(LeaseRow))
