"""What a wrong or troubled PostgreSQL looks like: one line with the cure, and whether waiting helps."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import describe, is_transient, make_engine, open_database, shown
from pipeline.storage.references import save_reference
from tests.faults.scored import NOW, reference
from tests.services.postgres import Postgres

SECRET = "hunter2"


@pytest.fixture
def engine(migrated_postgres_url: str) -> Iterator[Engine]:
    engine = open_database(migrated_postgres_url)
    with engine.begin() as conn:
        save_reference(conn, reference())
    yield engine
    engine.dispose()


def deploy(engine: Engine) -> int:
    with engine.begin() as conn:
        return ensure_deployment(conn, "d", model_id="m@0", reference_id=1, now=NOW)


def failure(engine: Engine, statement: str) -> DBAPIError:
    with pytest.raises(DBAPIError) as caught, engine.begin() as conn:
        conn.exec_driver_sql(statement)
    return caught.value


WRONG = {
    "password": (
        {"user": "postgres", "password": SECRET},
        "password authentication failed .* correct user and password",
    ),
    "role": ({"user": "nobody_at_all", "password": SECRET}, "correct user and password"),
    "database": ({"database": "missing"}, '"missing" does not exist; create it, then run `oodwatch migrate`'),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_address_ends_at_once_with_the_cure(postgres: Postgres, what: str) -> None:
    arguments, words = WRONG[what]
    with pytest.raises(UsageError, match=words) as caught:
        open_database(postgres.url(**arguments))
    line = str(caught.value)
    assert SECRET not in line
    assert str(postgres.superuser.password) not in line
    assert f"127.0.0.1:{postgres.superuser.port}" in line or postgres.superuser.host != "127.0.0.1"
    assert "\n" not in line


def test_an_unknown_option_names_the_part_of_the_url() -> None:
    with pytest.raises(UsageError, match="behind the '\\?'"):
        open_database("postgresql+psycopg://a@127.0.0.1:1/b?sslmod=require")


@pytest.mark.parametrize("where", ["127.0.0.1:1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_is_waited_for(where: str) -> None:
    with pytest.raises(EnvironmentFault, match=where):
        open_database(f"postgresql+psycopg://oodwatch:{SECRET}@{where}/oodwatch")


def test_an_empty_database_names_migrate_and_no_password(postgres_url: str) -> None:
    with pytest.raises(UsageError, match="is empty; run `oodwatch migrate") as caught:
        open_database(postgres_url)
    assert ":***@" in str(caught.value)


def test_secrets_behind_the_question_mark_are_not_shown() -> None:
    url = f"postgresql://u:{SECRET}@/d?host=a:1&host=b:2&password={SECRET}&sslpassword={SECRET}"
    assert shown(url) == "postgresql://u:***@/d?host=a%3A1&host=b%3A2"


def test_other_engines_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"mysql.*another engine; write sqlite:///"):
        make_engine(f"mysql://u:{SECRET}@h/d")


def test_tables_of_another_release_end_at_once(engine: Engine) -> None:
    for statement in ("SELECT * FROM later_table", "SELECT later FROM score", "SELECT later_function()"):
        error = failure(engine, statement)
        assert not is_transient(error)
        assert "run `oodwatch migrate`" in describe(error, engine.url)


def test_a_read_only_server_is_waited_out_and_then_asked_anew(engine: Engine, postgres: Postgres) -> None:
    name = engine.url.database
    postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    engine.dispose()
    with pytest.raises(DBAPIError, match="read-only") as caught:
        deploy(engine)
    assert is_transient(caught.value)
    assert "target_session_attrs=read-write" in describe(caught.value, engine.url)
    postgres.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert deploy(engine) >= 1  # on a new connection: the old one still belongs to the read-only server


def test_a_lost_connection_is_waited_out(engine: Engine) -> None:
    error = failure(engine, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert is_transient(error)
    assert deploy(engine) >= 1


def test_too_many_connections_are_waited_out(engine: Engine, postgres: Postgres) -> None:
    name = engine.url.database
    postgres.execute("CREATE ROLE crowded LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
    try:
        with pytest.raises(EnvironmentFault, match="too many connections"):
            open_database(postgres.url(name or "", user="crowded", password="x"))
    finally:
        postgres.execute("DROP ROLE crowded")


def test_a_full_disk_is_waited_out(engine: Engine) -> None:
    statement = "DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$"
    error = failure(engine, statement)
    assert is_transient(error)
    assert "free some space on the server" in describe(error, engine.url)


def test_a_broken_constraint_is_nobody_s_weather(engine: Engine) -> None:
    error = failure(engine, "INSERT INTO segment (deployment_id, name) VALUES (99, 'x')")
    assert not is_transient(error)


def test_a_lock_that_somebody_holds_is_waited_out(engine: Engine) -> None:
    with engine.begin() as holder:
        holder.exec_driver_sql("LOCK TABLE deployment")
        error = failure(engine, "SET LOCAL lock_timeout = '10ms'; LOCK TABLE deployment")
    assert is_transient(error)
    assert "see pg_stat_activity" in describe(error, engine.url)


def test_every_writing_transaction_has_limits_and_no_statement_stays_prepared(engine: Engine) -> None:
    settings = "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"
    with engine.begin() as conn:
        assert conn.execute(text(settings)).one() == ("10s", "30s")
        assert conn.scalar(text("SELECT current_setting('transaction_isolation')")) == "read committed"
        assert conn.scalar(text("SELECT current_setting('application_name')")) == "oodwatch"
        for _ in range(10):
            conn.execute(text("SELECT 1"))
        assert conn.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
