from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from pipeline.storage.engine import open_database
from pipeline.storage.leadership import Leader, make_leader


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def pair(engine: Engine) -> Iterator[tuple[Leader, Leader]]:
    first, second = make_leader(engine, "a"), make_leader(engine, "b")
    yield first, second
    first.resign()
    second.resign()


def shift_leases(engine: Engine, by: timedelta) -> None:
    with engine.begin() as conn:
        conn.execute(text("UPDATE lease SET expires_at = expires_at + :by"), {"by": by // timedelta(microseconds=1)})


def test_one_leads_a_deployment_and_another_may_lead_the_next(pair: tuple[Leader, Leader]) -> None:
    first, second = pair
    assert first.leads(1)
    assert not second.leads(1)
    assert second.leads(2)
    assert not first.leads(2)
    assert first.leads(1)


def test_who_resigns_is_followed_at_once(pair: tuple[Leader, Leader]) -> None:
    first, second = pair
    assert first.leads(1)
    first.resign()
    assert second.leads(1)
    assert not first.leads(1)


@pytest.mark.parametrize("by", [timedelta(seconds=-70), timedelta(hours=1)])
def test_a_lease_that_has_expired_or_that_a_stepping_clock_has_prolonged_is_taken_over(
    tmp_path: object, by: timedelta
) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/test.db")
    first, second = make_leader(engine, "a"), make_leader(engine, "b")
    assert first.leads(1)
    shift_leases(engine, by)
    assert second.leads(1)
    assert not first.leads(1)
    engine.dispose()


def test_a_lease_is_renewed_when_half_of_it_has_passed(tmp_path: object) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/test.db")
    first = make_leader(engine, "a")

    def expiry() -> int:
        with engine.connect() as conn:
            return int(conn.scalar(text("SELECT expires_at FROM lease")) or 0)

    assert first.leads(1)
    begun = expiry()
    assert first.leads(1)
    assert expiry() == begun
    shift_leases(engine, timedelta(seconds=-40))
    assert first.leads(1)
    assert expiry() >= begun
    engine.dispose()


def test_a_session_that_the_server_has_ended_leads_no_more(migrated_postgres_url: str) -> None:
    engine = open_database(migrated_postgres_url)
    first, second = make_leader(engine, "a"), make_leader(engine, "b")
    assert first.leads(1)
    with engine.begin() as conn:
        ended = conn.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")).all()
    assert ended == [(True,)]
    while not second.leads(1):  # the server takes a moment to end a session
        pass
    with pytest.raises(DBAPIError):
        first.leads(1)
    assert not first.leads(1)
    second.resign()
    first.resign()
    engine.dispose()


def test_a_frozen_session_is_ended_by_the_server(migrated_postgres_url: str) -> None:
    engine = open_database(migrated_postgres_url)
    leader = make_leader(engine, "a")
    assert leader.leads(1)
    assert leader._session().scalar(text("SHOW idle_session_timeout")) == "1min"  # type: ignore[attr-defined]
    leader.resign()
    engine.dispose()
