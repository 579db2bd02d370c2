"""Roles on a real server: the reader changes nothing, the writer runs a whole worker and owns nothing."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.errors import UsageError
from pipeline.ingest.source import NewRecord
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.drills import begin_drill, dead, end_drill, outcomes, scored, tell_drill
from pipeline.storage.engine import is_transient, make_engine, translated_errors
from pipeline.storage.explanations import may_save
from pipeline.storage.roles import BLIND, OPERATOR, READER, WRITER
from pipeline.storage.sample_pages import PICTURES, may_read_pictures
from tests.faults.scored import NOW
from tests.services.postgres import Postgres
from tests.tiny import Deployment, make_deployment, png

TABLES = (
    "reference",
    "deployment",
    "segment",
    "stream",
    "stream_gap",
    "score",
    "dead_letter",
    "roll_up_part",
    "sample",
    "explanation",
    "review",
    "tick",
    "tick_level",
    "monitor",
    "detector_state",
    "detector_checkpoint",
    "verdict",
    "transition",
    "baseline",
    "model_package",
    "model_package_chunk",
    "model_event",
)
ROLES = (READER, BLIND, WRITER, OPERATOR)
#: What an operator may add to.
DECISIONS = ("baseline", "model_event", "review")


@pytest.fixture(scope="module")
def logins(postgres: Postgres) -> Iterator[None]:
    for role in ROLES:
        postgres.execute(f"CREATE ROLE test_{role} LOGIN PASSWORD 'x'")
    yield
    for role in ROLES:
        postgres.execute(f"DROP ROLE test_{role}")


@pytest.fixture(scope="module")
def deployment(postgres: Postgres, logins: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Migrated with --roles and calibrated by the owner."""
    name = postgres.create_database()
    ran = CliRunner().invoke(app, ["migrate", "--roles", "--database", postgres.url(name)])
    assert ran.exit_code == 0, ran.output
    for role in ROLES:
        postgres.execute(f"GRANT {role} TO test_{role}")
    yield make_deployment(tmp_path_factory.mktemp("roles"), database_url=postgres.url(name))
    postgres.drop_database(name)
    for role in ROLES:
        postgres.execute(f"DROP ROLE {role}")


@pytest.fixture
def as_role(deployment: Deployment, postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = make_engine(url_as(deployment, postgres, request.param))
    yield engine
    engine.dispose()


def url_as(deployment: Deployment, postgres: Postgres, role: str) -> str:
    return postgres.url(deployment.database.rsplit("/", 1)[1], user=f"test_{role}", password="x")


def refused(engine: Engine, statement: str) -> bool:
    with pytest.raises(DBAPIError) as caught, engine.begin() as conn:
        conn.exec_driver_sql(statement)
    assert not is_transient(caught.value)
    return "permission denied" in str(caught.value) or "must be owner" in str(caught.value)


def test_the_writer_runs_a_whole_worker(deployment: Deployment, postgres: Postgres) -> None:
    worker = replace(deployment, database_url=url_as(deployment, postgres, WRITER))
    longest = timedelta(days=729)
    spool = worker.spool()
    spool.append([NewRecord(png(i), timestamp=datetime.now(UTC) - longest * i / 40) for i in range(40)])
    spool.append([NewRecord(b"no image")])
    spool.close()
    progress = worker.drain()
    assert (progress.scored, progress.dead) == (40, 1)


@pytest.mark.parametrize("as_role", [READER, BLIND, OPERATOR], indirect=True)
def test_a_reader_sees_every_table_and_changes_none(as_role: Engine) -> None:
    with as_role.connect() as conn:
        for table in TABLES:
            assert conn.scalar(text(f'SELECT count(*) FROM "{table}"')) is not None
    for table in TABLES:
        assert refused(as_role, f'DELETE FROM "{table}"')
        if as_role.url.username != f"test_{OPERATOR}" or table not in DECISIONS:
            assert refused(as_role, f'INSERT INTO "{table}" DEFAULT VALUES')
    assert refused(as_role, "UPDATE stream SET next_offset = 0")
    assert refused(as_role, "SELECT create_score_days('{1}')")
    assert refused(as_role, "SELECT drop_score_day(1)")
    assert refused(as_role, "DROP TABLE score")


@pytest.mark.parametrize("as_role", [OPERATOR], indirect=True)
def test_an_operator_accepts_and_revokes_baselines_and_changes_no_other_word_of_them(as_role: Engine) -> None:
    with as_role.begin() as conn:
        columns = "deployment_id, reference_id, version, window_start, window_end, name, reason, accepted_at, days"
        conn.execute(
            text(
                f"INSERT INTO baseline ({columns}, arrays, summary) SELECT 1, id, 1, 0, 1, 'a', 'b', 2, 0, '', '{{}}'"
                " FROM reference WHERE false"
            )
        )
        conn.execute(text("UPDATE baseline SET revoked_at = 1, revoked_by = 'ann' WHERE version = 1"))
    assert refused(as_role, "UPDATE baseline SET days = 3")
    assert refused(as_role, "UPDATE baseline SET name = 'bob'")


@pytest.mark.parametrize("as_role", [OPERATOR, WRITER], indirect=True)
def test_who_promotes_and_who_refuses_adds_to_the_history_and_changes_none_of_it(as_role: Engine) -> None:
    with as_role.begin() as conn:
        conn.execute(text("INSERT INTO model_event (at, kind, who, why) VALUES (1, 'promoted', 'ann', '')"))
    assert refused(as_role, "UPDATE model_event SET who = 'bob'")
    assert refused(as_role, "DELETE FROM model_event")
    assert refused(as_role, "INSERT INTO model_package DEFAULT VALUES")
    assert refused(as_role, "UPDATE model_package_chunk SET content = ''")


@pytest.mark.parametrize("as_role", [BLIND], indirect=True)
def test_a_reader_without_images_reads_neither_pictures_nor_outlines_and_all_else(as_role: Engine) -> None:
    for table, column in PICTURES.items():
        assert refused(as_role, f'SELECT {column} FROM "{table}"')
        assert refused(as_role, f'SELECT * FROM "{table}"')
    with as_role.connect() as conn:
        assert not may_read_pictures(conn)
        conn.execute(text("SELECT id, features, headers FROM sample"))


@pytest.mark.parametrize("as_role", [READER], indirect=True)
def test_a_reader_sees_days_that_were_made_later(as_role: Engine, deployment: Deployment) -> None:
    owner = make_engine(deployment.database)
    with owner.begin() as conn:
        assert conn.scalar(text("SELECT create_score_days('{30000}')")) == 1
    owner.dispose()
    with as_role.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM score WHERE event_time >= 30000 * 86400000000")) == 0


@pytest.mark.parametrize("as_role", [WRITER], indirect=True)
def test_a_writer_changes_no_score_and_no_reference_and_owns_nothing(as_role: Engine) -> None:
    for statement in (
        "UPDATE score SET energy = 0",
        "DELETE FROM score",
        "DELETE FROM stream",
        "UPDATE reference SET threshold = 0",
        "INSERT INTO reference DEFAULT VALUES",
        "INSERT INTO baseline DEFAULT VALUES",
        "UPDATE baseline SET revoked_by = 'me'",
        "CREATE TABLE mine (a integer)",
        "DROP TABLE score",
        "ALTER TABLE score ADD a integer",
    ):
        assert refused(as_role, statement), statement


@pytest.mark.parametrize("as_role", [READER], indirect=True)
def test_a_worker_without_the_role_ends_with_the_cure(as_role: Engine) -> None:
    with pytest.raises(UsageError, match="GRANT oodwatch_writer"), translated_errors(as_role.url), as_role.begin() as c:
        ensure_deployment(c, "d", model_id="m", reference_id=1, now=NOW)


@pytest.mark.parametrize("as_role", [READER, WRITER, OPERATOR], indirect=True)
def test_only_a_writer_stores_explanations_and_others_know_it_beforehand(as_role: Engine) -> None:
    with as_role.connect() as conn:
        assert may_save(conn) == (as_role.url.username == f"test_{WRITER}")


def test_roles_are_granted_again_without_harm(deployment: Deployment, postgres: Postgres) -> None:
    name = deployment.database.rsplit("/", 1)[1]
    rights = "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants ORDER BY 1, 2, 3"
    before = postgres.execute(rights, name)
    ran = CliRunner().invoke(app, ["migrate", "--roles", "--database", deployment.database])
    assert ran.exit_code == 0
    assert postgres.execute(rights, name) == before


def test_roles_on_sqlite_are_refused(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["migrate", "--roles", "--database", f"sqlite:///{tmp_path / 'a.db'}"])
    assert isinstance(ran.exception, UsageError)
    assert "SQLite has no roles" in str(ran.exception)


@pytest.mark.parametrize("as_role", [OPERATOR], indirect=True)
def test_an_operator_drills_and_changes_nothing_else_of_what_is_told(as_role: Engine, deployment: Deployment) -> None:
    owner = make_engine(deployment.database)
    with owner.begin() as conn:
        reference_id = conn.scalar(text("SELECT min(id) FROM reference"))
        key = ensure_deployment(conn, "drilled", model_id="m", reference_id=reference_id, now=NOW)
    owner.dispose()
    with as_role.begin() as conn:
        drill = begin_drill(conn, key, who="ann", now=NOW, until=NOW)
        tell_drill(conn, drill, {}, ["log", "hook"], who="ann", now=NOW, until=NOW)
        assert scored(conn, key, ["drill/1"], about=NOW) == []
        assert dead(conn, key, ["drill/1"], since=NOW) == {}
        assert end_drill(conn, drill, at=NOW) == 2
        assert [(one.channel, one.given_up) for one in outcomes(conn, drill)] == [("log", True), ("hook", True)]
    assert refused(as_role, "UPDATE outbox SET payload = '{}'")
    assert refused(as_role, "UPDATE incident SET kind = 'shift'")
