from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipeline.storage.engine import open_database, sqlite_file
from pipeline.storage.processes import Process, beat, clock_of, forget_silent, list_processes, remove
from tests.faults.scored import NOW

PROCESS = Process("host:7", "worker", "d", "0.1.0", NOW, NOW, {"ready": True, "lag": {"images/0": 3}})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    yield engine
    engine.dispose()


def test_a_process_has_one_row_that_its_beats_renew_and_its_end_removes(engine: Engine) -> None:
    later = replace(PROCESS, beat_at=NOW + timedelta(seconds=10), state={"ready": False})
    with engine.begin() as conn:
        beat(conn, PROCESS)
        beat(conn, replace(PROCESS, name="host:8"))
        beat(conn, later)
    with engine.begin() as conn:
        assert sorted(list_processes(conn), key=lambda process: process.name) == [
            later,
            replace(PROCESS, name="host:8"),
        ]
        remove(conn, "host:8")
        remove(conn, "host:8")
        assert list_processes(conn) == [later]


def test_only_those_that_were_silent_too_long_are_forgotten(engine: Engine) -> None:
    with engine.begin() as conn:
        beat(conn, PROCESS)
        beat(conn, replace(PROCESS, name="old", beat_at=NOW - timedelta(days=1, seconds=1)))
        assert forget_silent(conn, before=NOW - timedelta(days=1)) == 1
        assert [process.name for process in list_processes(conn)] == ["host:7"]


def test_sqlite_has_no_clock_of_its_own(engine: Engine) -> None:
    with engine.begin() as conn:
        assert clock_of(conn) is None


def test_only_a_sqlite_url_names_a_file() -> None:
    assert sqlite_file("sqlite:////var/o.db") == Path("/var/o.db")
    assert sqlite_file("sqlite:///o.db") == Path.cwd() / "o.db"
    assert sqlite_file("sqlite://") is None
    assert sqlite_file("postgresql+psycopg://u@h/d") is None
    assert sqlite_file("my.db") is None
