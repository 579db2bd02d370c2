"""`oodwatch monitor` as a person and as a supervisor start it."""

import gc
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from pipeline.alerts.acts import Act
from pipeline.assembly.handling import decide
from pipeline.assembly.monitoring import run_monitor, wake
from pipeline.cli.output import iso
from pipeline.errors import EnvironmentFault
from pipeline.ingest.source import NewRecord
from pipeline.records import utc_now
from pipeline.settings import MonitorSettings, Settings, load_settings
from pipeline.shift.folding import floor
from pipeline.storage.alert_schema import IncidentEventRow, IncidentRow, OutboxRow
from pipeline.storage.engine import make_engine, open_database
from pipeline.storage.leadership import make_leader
from pipeline.storage.migrations.run import upgrade
from pipeline.storage.roles import OPERATOR, READER, WRITER, grant_roles
from pipeline.telemetry.probe import ask
from tests.alerted import LOUD, change, rows
from tests.integration.typing_commands import Command
from tests.monitored import MINUTE, T0, Traffic, monitor
from tests.services.postgres import Postgres, PostgresServer
from tests.services.processes import listening, wait_until
from tests.tiny import Deployment, png

NOW = "2026-11-24T01:00:00Z"


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A file with ten minutes of traffic."""
    url = f"sqlite:///{tmp_path / 'watched.db'}"
    engine = open_database(url)
    Traffic(engine).minutes(10)
    engine.dispose()
    return url


def lines(printed: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_what_a_worker_has_scored_is_in_the_ticks_that_once_prints(deployment: Deployment, command: Command) -> None:
    hour = timedelta(hours=1)
    begin = floor(utc_now() - hour, 1)
    spool = deployment.spool()
    early, late = ((begin + minute * MINUTE).isoformat().encode() for minute in (0, 5))
    spool.append(
        [NewRecord(png(i), headers=(("ce_time", early), ("segment", f"cam-{i % 2}".encode()))) for i in range(30)]
    )
    spool.append([NewRecord(png(99), headers=(("ce_time", late),))])
    spool.close()
    assert deployment.drain().scored == 31
    later = (utc_now() + hour).isoformat()  # the partition is idle by then, so that its last minute is complete
    answer = command("monitor", "--once", "--json", "--database", deployment.database, "--now", later)
    assert answer.code == 0
    printed = lines(answer.out)
    assert [(line["start"], line["n"]) for line in printed if line["n"]] == [
        (iso(begin), 30),
        (iso(begin + 5 * MINUTE), 1),
    ]
    assert {line["reference"] for line in printed} == {"tiny-r1"}


def test_bad_input_is_refused_in_one_line(command: Command, database: str, tmp_path: Path) -> None:
    command("monitor", "--once", "--database", database, "--deployment", "x").refuses(
        2, "no deployment 'x'", "known: d"
    )
    command("monitor", "--database", database, "--now", NOW).refuses(2, "--now", "add --once")
    command("monitor", "--once", "--database", database, "--now", "noon").refuses(2, "--now")
    command("monitor", "--once", "--database", f"sqlite:///{tmp_path / 'none.db'}").refuses(2, "there is no database")


def test_once_does_nothing_while_another_monitor_leads(command: Command, database: str) -> None:
    engine = open_database(database)
    leader = make_leader(engine, "other")
    assert leader.leads(1)
    answer = command("monitor", "--once", "--database", database)
    assert answer.code == 0
    assert "another monitor leads" in answer.err
    assert answer.out == "folded 0 parts of 0 images, evaluated 0 ticks, 0 changes of state\n"
    leader.resign()
    answer = command("monitor", "--once", "--database", database)
    assert answer.out.startswith("folded 40 parts of 400 images")
    assert answer.err == ""
    engine.dispose()


def test_once_says_when_a_minute_is_due_where_none_is(command: Command, database: str) -> None:
    once = ("monitor", "--once", "--database", database)
    assert command(*once, "--now", NOW).err == ""
    again = command(*once, "--now", NOW)
    assert "evaluated 0 ticks" in again.out
    assert "no minute is due: one is judged 30 s after its end" in again.err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_monitor_loads_no_torch_and_stays_small(database: str) -> None:
    program = (
        "import pathlib, re, sys; from pipeline.cli.app import execute;"
        f" sys.argv = ['oodwatch', 'monitor', '--once', '--database', {database!r}]; code = execute();"
        " peak = re.search(r'VmHWM:\\s+(\\d+) kB', pathlib.Path('/proc/self/status').read_text())[1];"
        " print(code, 'torch' in sys.modules, peak)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    code, torch, kilobytes = ran.stdout.splitlines()[-1].split()
    assert (code, torch) == ("0", "False")
    assert int(kilobytes) <= 250 * 1024


def started(database: str) -> AbstractContextManager[tuple["subprocess.Popen[str]", str]]:
    """A monitor that looks ten times a second."""
    return listening(["monitor", "--database", database], {"OODWATCH_MONITOR__INTERVAL_SECONDS": "0.1"})


def test_a_monitor_is_probed_works_and_ends_in_order(database: str, command: Command) -> None:
    engine = open_database(database)
    with started(database) as (process, url):
        wait_until(lambda: ask(f"{url}/readyz", timeout_s=30)[0] == 200, "the monitor is ready")
        assert ask(f"{url}/livez", timeout_s=30) == (200, {"ok": True, "reasons": []})
        with engine.connect() as conn:
            assert conn.scalar(text("SELECT sum(n) FROM tick WHERE minutes = 1 AND segment_id = 0")) == 400
        wait_until(lambda: "monitor" in command("health", "--database", database).out, "its first heartbeat")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out.startswith("folded 40 parts of 400 images")
    with engine.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM process")) == 0
        assert conn.scalar(text("SELECT count(*) FROM lease")) == 0
    engine.dispose()


def settings_of(url: str) -> Settings:
    return load_settings(database=url, http={"listen": "off"}, monitor=MonitorSettings(interval_seconds=0.05))


def test_a_database_that_goes_away_is_waited_for_and_nothing_is_lost(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    engine = make_engine(postgres_server.url(name))
    upgrade(engine)
    traffic = Traffic(engine)
    traffic.minutes(10)
    stop = threading.Event()

    def folded() -> bool:
        try:
            return traffic.parts_left() == 0
        except OperationalError:
            return False

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(run_monitor, settings_of(postgres_server.url(name)), once=False, now=None, stop=stop)
        wait_until(folded, "the first ten minutes")
        postgres_server.kill()
        postgres_server.start()
        traffic.minutes(10, first=10)
        wait_until(folded, "the next ten minutes")
        stop.set()
        work = watching.result(60)
    assert traffic.stored() == traffic.written
    assert work.parts == 80
    engine.dispose()


def test_what_waiting_cannot_mend_ends_the_monitor_with_the_reason(database: str) -> None:
    engine = open_database(database)
    with engine.begin() as conn:
        conn.execute(text("DROP TABLE tick"))
    with pytest.raises(EnvironmentFault, match="no such table"):
        run_monitor(settings_of(database), once=False, now=None, stop=threading.Event())
    engine.dispose()


def test_a_job_far_in_the_future_runs_now_because_the_clock_has_stepped_back() -> None:
    scheduler = BackgroundScheduler(timezone="UTC")
    interval = timedelta(seconds=10)
    job = scheduler.add_job(gc.collect, "interval", seconds=10, next_run_time=T0 + interval)
    scheduler.start(paused=True)
    wake(job, T0, interval)
    assert job.next_run_time == T0 + interval
    wake(job, T0 - timedelta(hours=1), interval)
    assert job.next_run_time == T0 - timedelta(hours=1)
    scheduler.shutdown()


@pytest.fixture
def writer(postgres: Postgres, migrated_postgres_url: str) -> Iterator[Callable[[], Engine]]:
    """Connects as a login that has only been granted oodwatch_writer."""
    name = migrated_postgres_url.rsplit("/", 1)[1]
    owner = open_database(migrated_postgres_url)
    with owner.begin() as conn:
        grant_roles(conn)
    postgres.execute("CREATE ROLE watching LOGIN PASSWORD 'x'")
    postgres.execute(f"GRANT {WRITER} TO watching")
    yield lambda: open_database(postgres.url(name, user="watching", password="x"))
    owner.dispose()
    postgres.execute("DROP ROLE watching")
    for role in (READER, WRITER, OPERATOR):
        postgres.execute(f"DROP OWNED BY {role}", name)
        postgres.execute(f"DROP ROLE {role}")


def test_the_writers_role_is_enough_for_a_monitor(migrated_postgres_url: str, writer: Callable[[], Engine]) -> None:
    owner, engine = open_database(migrated_postgres_url), writer()
    traffic = Traffic(owner)
    traffic.minutes(70, flagged=0.5)
    watching = monitor(engine, T0 + 70 * MINUTE, limit=500)
    watching.run()
    traffic.write(traffic.part(T0 + 69 * MINUTE, 1, n=2))
    traffic.move(T0 + timedelta(days=40))
    monitor(engine, T0 + timedelta(days=40), limit=500).run()
    assert watching.work.transitions == 2
    assert traffic.column("late_images") == 2
    assert traffic.stored() == {}
    owner.dispose()
    engine.dispose()


def test_what_a_monitor_raises_as_writer_an_operator_may_handle(
    postgres: Postgres, migrated_postgres_url: str, writer: Callable[[], Engine]
) -> None:
    owner, engine = open_database(migrated_postgres_url), writer()
    traffic = Traffic(owner)
    change(traffic, "segment:cam-0", "ok", "critical", 1)
    monitor(engine, T0 + 2 * MINUTE, alerting=LOUD).run()
    postgres.execute("CREATE ROLE handling LOGIN PASSWORD 'x'")
    postgres.execute(f"GRANT {OPERATOR} TO handling")
    url = postgres.url(migrated_postgres_url.rsplit("/", 1)[1], user="handling", password="x")
    try:
        (incident,) = rows(owner, IncidentRow)
        for act in (Act("acknowledge", "ann"), Act("silence", "ann", "lens", utc_now() + timedelta(hours=1))):
            assert decide(load_settings(database=url), incident["id"], act).changed
    finally:
        postgres.execute("DROP ROLE handling")
    change(traffic, "segment:cam-0", "critical", "ok", 2)
    monitor(engine, T0 + 3 * MINUTE, alerting=LOUD).run()
    kinds = [row["kind"] for row in rows(owner, IncidentEventRow)]
    assert kinds == ["raise", "acknowledge", "silence", "resolve", "resolve"]
    assert [row["action"] for row in rows(owner, OutboxRow) if row["channel"] == "chat"] == ["trigger", "resolve"]
    owner.dispose()
    engine.dispose()
