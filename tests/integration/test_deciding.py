"""What people decide at the dashboard."""

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from pipeline.assembly.deciding import Operator
from pipeline.assembly.proposing import Proposals
from pipeline.errors import EnvironmentFault, OodwatchError, RefusedError, UsageError
from pipeline.settings import load_settings
from pipeline.storage.alert_schema import IncidentEventRow, IncidentRow
from pipeline.storage.engine import make_engine, open_database
from pipeline.storage.migrations.run import upgrade
from pipeline.storage.reviews import newest_reviews
from pipeline.storage.roles import OPERATOR, READER, WRITER, grant_roles
from tests.browser.seeded import END, NOW, seed
from tests.services.postgres import Postgres


def operator(url: str) -> Operator:
    return Operator(load_settings(database=url), lambda: NOW)


def handling(url: str) -> tuple[str, str | None]:
    engine = open_database(url)
    with engine.connect() as conn:
        row = conn.execute(select(IncidentRow.handling, IncidentRow.handled_by).where(IncidentRow.id == 2)).one()
    engine.dispose()
    return row.handling, row.handled_by


def test_who_comes_second_hears_what_the_first_did_and_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/board.db"
    seed(url, hours=2)
    assert operator(url).acknowledge(2, who="dana", why="", seen=3) == ""
    assert operator(url).acknowledge(2, who="robin", why="", seen=3) == "dana has acknowledged it; nothing was changed."
    assert handling(url) == ("acknowledged", "dana")
    until = NOW + timedelta(hours=4)
    told = operator(url).silence(2, until=until, who="robin", why="cleaning", seen=3)
    assert told == "Done; meanwhile dana has acknowledged it."
    assert operator(url).acknowledge(2, who="dana", why="", seen=5) == ""
    assert handling(url) == ("acknowledged", "dana")
    engine = open_database(url)
    with engine.connect() as conn:
        kinds = conn.scalars(select(IncidentEventRow.kind).order_by(IncidentEventRow.id)).all()
    engine.dispose()
    assert kinds == ["raise"] * 3 + ["acknowledge", "silence", "acknowledge"]


def test_of_an_image_that_is_gone_no_verdict_is_stored_and_that_is_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/board.db"
    seed(url, hours=1)
    assert operator(url).review(1, "noise", who="dana") == ""
    assert operator(url).review(99_999, "noise", who="dana") == "Nothing was stored: the image is no longer kept."


def test_a_decision_that_a_locked_database_does_not_take_is_said_to_be_stored_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/board.db"
    seed(url, hours=2)
    monkeypatch.setattr("pipeline.storage.engine._BUSY_TIMEOUT_S", 0)
    with contextlib.closing(sqlite3.connect(tmp_path / "board.db", isolation_level=None)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        with pytest.raises(EnvironmentFault, match=r"Nothing was stored: the database did not take it\. Try again\."):
            operator(url).acknowledge(2, who="dana", why="", seen=3)
    assert handling(url) == ("open", None)
    assert operator(f"sqlite:///{tmp_path}/away.db").may_write()  # a page without it says so in other words
    with pytest.raises(OodwatchError, match=r"away\.db"):
        operator(f"sqlite:///{tmp_path}/away.db").acknowledge(2, who="dana", why="", seen=3)


def test_on_postgresql_a_reader_is_told_which_role_it_takes_and_an_operator_decides(postgres: Postgres) -> None:
    database = postgres.create_database()
    url = postgres.url(database)
    engine = make_engine(url)
    upgrade(engine)
    with engine.begin() as conn:
        grant_roles(conn)
    engine.dispose()
    seed(url, hours=2)
    logins = {READER: "looks", OPERATOR: "decides"}
    for role, login in logins.items():
        postgres.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'x' IN ROLE {role}")
    try:
        looks = postgres.url(database, user="looks", password="x")
        with pytest.raises(UsageError, match=f"may only look.*{OPERATOR}") as refused:
            operator(looks).note(2, who="dana", why="fog", seen=3)
        assert "INSERT" not in str(refused.value)
        with pytest.raises(UsageError, match=f"may only look.*{OPERATOR}"):
            operator(looks).review(1, "shift", who="dana")
        over = {"operator_database": postgres.url(database, user="decides", password="x")}
        both = Operator(load_settings(database=looks, dashboard=over), lambda: datetime.now(UTC))
        assert (operator(looks).may_write(), both.may_write()) == (False, True)
        assert both.acknowledge(2, who="dana", why="", seen=3) == ""
        assert handling(url) == ("acknowledged", "dana")
        assert both.review(1, "shift", who="dana") == ""
        proposals = Proposals(load_settings(database=looks, dashboard=over))
        proposal = proposals.propose("road-users", END - timedelta(hours=2), END, watch=lambda share, doing: None)
        assert proposal.until == END
        assert "Baseline 2 counts" in proposals.accept(proposal, who="dana", why="fog is normal", force=True)
        with pytest.raises(RefusedError, match="dana has accepted baseline 2 meanwhile"):
            proposals.accept(proposal, who="robin", why="fog is normal", force=True)
        assert proposals.revoke("road-users", who="dana") == "Baseline 2 is revoked: baseline 1 counts again."
    finally:
        postgres.drop_database(database)
        for role in (*logins.values(), READER, WRITER, OPERATOR):
            postgres.execute(f"DROP ROLE {role}")


def test_what_people_decide_is_stored_by_the_clock_that_all_processes_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/board.db"
    seed(url, hours=1)
    monkeypatch.setenv("OODWATCH_CLOCK__BEGAN", "2026-01-01T00:00Z")
    monkeypatch.setenv("OODWATCH_CLOCK__FACTOR", "60")
    settings = load_settings(database=url)
    before = settings.clock.now()
    assert Operator(settings).review(1, "noise", who="dana") == ""
    engine = open_database(url)
    with engine.connect() as conn:
        assert before <= newest_reviews(conn, [1])[1].at <= settings.clock.now()
    engine.dispose()
