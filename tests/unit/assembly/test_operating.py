import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from pipeline.assembly.operating import Heartbeat, Operations
from pipeline.assembly.overview import ProcessLine, line_of
from pipeline.errors import EnvironmentFault
from pipeline.stages.flow import Progress
from pipeline.storage.engine import open_database
from pipeline.storage.processes import Process, beat, list_processes
from tests.faults.scored import NOW
from tests.unit.telemetry.test_health import AT_WORK


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    yield engine
    engine.dispose()


def operations(*, stop: threading.Event | None = None, patient: bool = True, listen: str = "off") -> Operations:
    return Operations("worker", name="host:7", listen=listen, stop=stop or threading.Event(), patient=patient)


def database_is_down() -> EnvironmentFault:
    """As `translated_errors` makes it."""
    fault = EnvironmentFault("db: connection refused")
    fault.__cause__ = OperationalError("SELECT 1", {}, Exception("connection refused"))
    return fault


def test_readiness_names_the_phase_then_what_the_worker_lacks_then_the_stop() -> None:
    stop = threading.Event()
    at_work = operations(stop=stop)
    at_work.enter("loading the model")
    assert at_work.unready() == ["loading the model"]
    state = replace(AT_WORK, trouble="db: down")
    at_work.watch(lambda: state)
    assert at_work.unready() == ["db: down"]
    assert at_work.registry.get_sample_value("oodwatch_ready") == 0
    state = AT_WORK
    assert at_work.unready() == []
    assert at_work.registry.get_sample_value("oodwatch_ready") == 1
    stop.set()
    assert at_work.unready() == ["told to stop: what is in flight is being finished"]
    assert at_work.silent() == []


def test_a_database_that_is_down_at_the_start_is_waited_for_and_says_so() -> None:
    waiting = operations()
    seen: list[list[str]] = []

    def attempt() -> str:
        seen.append(waiting.unready())
        if len(seen) < 2:
            raise database_is_down()
        return "opened"

    assert waiting.patiently("opening the database", attempt) == "opened"
    assert seen == [["opening the database"], ["opening the database: db: connection refused"]]


def test_waiting_ends_when_told_to_stop() -> None:
    stop = threading.Event()

    def attempt() -> None:
        stop.set()
        raise database_is_down()

    assert operations(stop=stop).patiently("opening the database", attempt) is None


def test_what_waiting_cannot_mend_is_raised_and_a_run_that_drains_does_not_wait() -> None:
    def down() -> None:
        raise database_is_down()

    def missing_table() -> None:
        raise EnvironmentFault("no table") from OperationalError("SELECT 1", {}, Exception("no such table: score"))

    with pytest.raises(EnvironmentFault, match="no table"):
        operations().patiently("opening", missing_table)
    with pytest.raises(EnvironmentFault, match="refused"):
        operations(patient=False).patiently("opening", down)


class FakeWriter:
    """Runs what it is given, once, as the writer does while the database answers."""

    def __init__(self) -> None:
        self.progress = Progress()

    def retry(self, attempt: Any, is_wanted: Any, *, asks: tuple[str, ...]) -> object:
        assert (is_wanted(), asks) == (True, ("database",))
        return attempt()


class Beating:
    """A heartbeat whose clocks a test moves."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.writer = engine, FakeWriter()
        self.now_s = 0.0
        self.unready = ["no partition is assigned yet"]
        self.problems: list[str | None] = []
        self.heartbeat = Heartbeat(
            engine,
            self.writer,  # type: ignore[arg-type]
            lambda rate, now: Process("host:7", "worker", "d", "1", NOW, now, {"rate": rate}),
            lambda: self.unready,
            self.problems.append,
            clock=lambda: NOW + timedelta(seconds=self.now_s),
            monotonic=lambda: self.now_s,
        )

    def at(self, now_s: float, *, scored: int = 0) -> list[tuple[float, float]]:
        """(age of the beat's time, rate) of every row after the writer came round at that time."""
        self.now_s, self.writer.progress.scored = now_s, scored
        self.heartbeat()
        with self.engine.begin() as conn:
            return [
                ((process.beat_at - NOW).total_seconds(), process.state["rate"]) for process in list_processes(conn)
            ]


def test_the_first_beat_waits_until_ready_and_the_next_ones_come_every_ten_seconds(engine: Engine) -> None:
    beating = Beating(engine)
    assert beating.at(1.0) == []
    beating.unready = []
    assert beating.at(2.0, scored=10) == [(2.0, 5.0)]
    assert beating.at(11.9, scored=100) == [(2.0, 5.0)]
    assert beating.at(12.0, scored=210) == [(12.0, 20.0)]


def test_a_process_that_does_not_become_ready_beats_all_the_same(engine: Engine) -> None:
    beating = Beating(engine)
    assert beating.at(9.9) == []
    assert beating.at(10.0) == [(10.0, 0.0)]


def test_the_first_beat_forgets_those_that_were_killed_days_ago(engine: Engine) -> None:
    with engine.begin() as conn:
        beat(conn, Process("old", "worker", "d", "1", NOW, NOW - timedelta(days=2), {"rate": 0.0}))
        beat(conn, Process("recent", "worker", "d", "1", NOW, NOW - timedelta(hours=2), {"rate": 0.0}))
    Beating(engine).at(10.0)
    with engine.begin() as conn:
        assert {process.name for process in list_processes(conn)} == {"host:7", "recent"}


def test_a_migration_under_a_running_worker_is_noticed_at_the_next_beat(engine: Engine) -> None:
    beating = Beating(engine)
    beating.at(10.0)
    with engine.begin() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    beating.at(20.0)
    assert beating.problems[0] is None
    assert "9999" in str(beating.problems[1])


def test_an_orderly_end_takes_the_row_away(engine: Engine) -> None:
    with engine.begin() as conn:
        beat(conn, Process("host:7", "worker", "d", "1", NOW, NOW, {}))
        operations().farewell(conn)
        assert list_processes(conn) == []


def line(age_s: float, **state: object) -> ProcessLine:
    return line_of(Process("host:7", "worker", "d", "1", NOW, NOW, state), NOW + timedelta(seconds=age_s))


def test_a_process_is_listed_as_it_last_said_and_as_silent_after_four_missed_beats() -> None:
    ready = line(3.0, ready=True, lag={"images/0": 2, "images/1": 5}, images_per_second=7.5)
    assert (ready.status, ready.age_s, ready.partitions, ready.lag, ready.reason) == ("ready", 3.0, 2, 7, "")
    waiting = line(3.0, ready=False, reasons=["db: down"])
    assert (waiting.status, waiting.reason) == ("not ready", "db: down")
    standby = line(3.0, ready=True, reasons=[], standby="host:6")
    assert (standby.status, standby.reason) == ("ready", "stands by for host:6")
    assert line(40.0, ready=True).status == "ready"
    silent = line(40.1, ready=True)
    assert (silent.status, silent.reason) == ("silent", "last beat 2026-11-24T03:00:30Z")
