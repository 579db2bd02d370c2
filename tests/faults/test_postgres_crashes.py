"""A worker drains while its PostgreSQL crashes: every record ends as exactly one row."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.stages import sink as sink_module
from pipeline.storage.partitions import ensure_days
from pipeline.storage.streams import advance
from tests.services.postgres import PostgresServer
from tests.tiny import Deployment, make_deployment, png

RECORDS = 96  # six batches of 16


@pytest.fixture(scope="module")
def calibrated(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(home, database) of a deployment, to be copied."""
    name = postgres_server.create_database()
    assert CliRunner().invoke(app, ["migrate", "--database", postgres_server.url(name)]).exit_code == 0
    home = tmp_path_factory.mktemp("template")
    make_deployment(home, database_url=postgres_server.url(name))
    return home, name


@pytest.fixture
def deployment(calibrated: tuple[Path, str], postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Deployment]:
    home, template = calibrated
    (tmp_path / "tiny").symlink_to(home / "tiny")
    name = postgres_server.create_database(template=template)
    deployment = Deployment(tmp_path, postgres_server.url(name))
    deployment.produce([png(i) for i in range(RECORDS)], partitions=2)
    yield deployment
    postgres_server.drop_database(name)


def at_the_third_batch(monkeypatch: pytest.MonkeyPatch, happen: Callable[[], object]) -> None:
    """Inside its transaction, after the compare-and-set and before the rows."""
    calls = iter(range(10_000))

    def interrupted(*arguments: object, **more: object) -> bool:
        moved = advance(*arguments, **more)  # type: ignore[arg-type]
        if next(calls) == 2:
            happen()
        return moved

    monkeypatch.setattr(sink_module, "advance", interrupted)


def everything_is_stored_once(deployment: Deployment) -> bool:
    engine = create_engine(deployment.database)
    with engine.connect() as conn:
        rows, places = conn.execute(text('SELECT count(*), count(DISTINCT (stream_id, "offset")) FROM score')).one()
        ledger = conn.scalar(text("SELECT sum(scored) FROM stream WHERE next_offset = log_end"))
        parts = conn.scalar(text("SELECT count(DISTINCT tick) FROM roll_up_part WHERE segment_id IS NULL"))
    engine.dispose()
    return (rows, places, ledger) == (RECORDS, RECORDS, RECORDS) and parts >= 1


@pytest.mark.parametrize("how", ["immediate restart", "kill -9"])
def test_a_crash_in_the_middle_of_a_transaction_loses_and_doubles_nothing(
    deployment: Deployment, postgres_server: PostgresServer, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash() -> None:
        postgres_server.stop("immediate") if how == "immediate restart" else postgres_server.kill()
        postgres_server.start()

    at_the_third_batch(monkeypatch, crash)
    assert deployment.drain().scored == RECORDS
    assert everything_is_stored_once(deployment)


def test_a_day_that_is_dropped_under_a_batch_is_made_again(
    deployment: Deployment, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10_000))

    def forgotten_once(conn: Connection, days: set[int]) -> int:
        return 0 if next(calls) == 0 else ensure_days(conn, days)

    monkeypatch.setattr("pipeline.storage.scores.ensure_days", forgotten_once)
    database = deployment.database.rsplit("/", 1)[1]
    while postgres_server.execute("SELECT drop_score_day(40000)", database) != [(0,)]:
        pass
    assert deployment.drain().scored == RECORDS
    assert everything_is_stored_once(deployment)


def test_a_connection_that_dies_during_commit_stores_its_batch_once(
    deployment: Deployment, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is durable, its answer never comes: the server waits for a standby that does not exist."""

    def standby(name: str) -> None:
        postgres_server.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        postgres_server.execute("SELECT pg_reload_conf()")

    stuck = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'oodwatch'"
    at_the_third_batch(monkeypatch, lambda: standby("nobody"))
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(deployment.drain)
        pids: list[tuple[object, ...]] = []
        while not pids and not drained.done():
            pids = postgres_server.execute(stuck)
        postgres_server.execute(f"SELECT pg_terminate_backend({pids[0][0]})")
        standby("")
        progress = drained.result()
    assert progress.fenced >= 1  # the second attempt met its own first one
    assert everything_is_stored_once(deployment)
