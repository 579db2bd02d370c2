"""A real worker process, asked over HTTP as a container platform and a scraper would."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine, text
from typer.testing import CliRunner, Result

from pipeline.cli.app import app
from pipeline.errors import EnvironmentFault
from pipeline.ingest.source import NewRecord
from pipeline.telemetry.probe import ask
from tests.services.processes import listening, wait_until
from tests.tiny import Deployment, make_deployment, png

pytestmark = pytest.mark.integration


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return make_deployment(tmp_path)


@pytest.fixture
def database(deployment: Deployment) -> Iterator[Engine]:
    engine = create_engine(deployment.database)
    yield engine
    engine.dispose()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def started(
    deployment: Deployment, *more: str, **environment: str
) -> AbstractContextManager[tuple["subprocess.Popen[str]", str]]:
    """A worker with small batches."""
    where = ("--source", deployment.source, "--database", deployment.database, "--model", str(deployment.model))
    return listening(["worker", *where, "--max-batch", "8", *more], environment)


def is_ready(url: str) -> bool:
    return ask(f"{url}/readyz", timeout_s=30)[0] == 200


def scrape(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urlopen(f"{url}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name.removeprefix("oodwatch_"), frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_worker_is_probed_scraped_and_stopped_and_its_counters_are_the_databases(
    deployment: Deployment, database: Engine
) -> None:
    spool = deployment.spool(2)
    spool.append([NewRecord(png(i), headers=(("segment", f"cam-{i % 3}".encode()),)) for i in range(90)])
    spool.append([NewRecord(png(i), headers=(("drill", b"1"),)) for i in range(5)])
    spool.append([NewRecord(value) for value in (b"rubbish", b"", None)])
    spool.close()
    with started(deployment) as (process, url):
        wait_until(lambda: is_ready(url))
        assert ask(f"{url}/livez", timeout_s=30) == (200, {"ok": True, "reasons": []})

        def stored() -> int:
            with database.connect() as conn:
                return int(conn.scalar(text("SELECT coalesce(sum(scored + dead), 0) FROM stream")) or 0)

        wait_until(lambda: stored() == 98)
        # The counters follow the commit in the same thread.
        wait_until(lambda: scrape(url)["end_to_end_latency_seconds_count", frozenset()] == 98)
        values = scrape(url)
        named = {"deployment": "tiny"}
        with database.connect() as conn:
            by_segment = conn.execute(
                text(
                    "SELECT s.name, count(*), sum(r.is_ood) FROM score r JOIN segment s ON s.id = r.segment_id"
                    " WHERE r.drill = 0 GROUP BY s.name"
                )
            ).all()
            reasons = conn.execute(text("SELECT reason, count(*) FROM dead_letter GROUP BY reason")).all()
        assert len(by_segment) == 3
        for segment, images, flagged in by_segment:
            labels = frozenset({**named, "segment": segment}.items())
            assert values["images_scored_total", labels] == images
            assert values["images_flagged_total", labels] == flagged
        assert values["drill_images_total", frozenset(named.items())] == 5
        assert dict(map(tuple, reasons)) == {"undecodable": 1, "empty": 1, "tombstone": 1}
        for reason, count in reasons:
            assert values["dead_letters_total", frozenset({"reason": reason}.items())] == count
        energy = frozenset({**named, "le": "+Inf"}.items())
        assert values["energy_nats_bucket", energy] == 90
        for partition in ("0", "1"):
            lag = frozenset({"topic": "images", "partition": partition}.items())
            assert values["consumer_lag_records", lag] == 0
        assert values["in_flight_records", frozenset()] == 0

        listed = run("health", "--database", deployment.database, "--json")
        (line,) = [json.loads(text) for text in listed.stdout.splitlines()]
        assert (line["role"], line["status"], line["partitions"], line["deployment"]) == ("worker", "ready", 2, "tiny")
        assert line["name"].endswith(f":{process.pid}")
        assert run("health", "--live", "--url", url).exit_code == 0

        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=25)
        assert process.returncode == 0
        assert out.startswith("scored 95, dead letters 3")
        assert "reading images partition 1 from offset 0 on" in err
    with database.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM process")) == 0


def test_a_second_worker_stands_by_and_is_ready_and_the_port_of_the_first_is_taken(deployment: Deployment) -> None:
    deployment.produce([png(i) for i in range(4)])
    with started(deployment) as (first, url):
        wait_until(lambda: is_ready(url))
        with started(deployment) as (_, other):
            wait_until(lambda: is_ready(other))
            assert not [name for name, _ in scrape(other) if name == "consumer_lag_records"]
        options = ("--source", deployment.source, "--database", deployment.database, "--model", deployment.model)
        taken = run("worker", *options, "--http", url.removeprefix("http://"), "--log-format", "text")
        assert isinstance(taken.exception, EnvironmentFault)
        assert "--http off" in str(taken.exception)
        assert first.poll() is None


def test_readiness_is_gone_at_once_while_a_stopping_worker_drains(deployment: Deployment, database: Engine) -> None:
    deployment.produce([png(i) for i in range(8)])
    with started(deployment) as (process, url):
        wait_until(lambda: is_ready(url))
        wait_until(lambda: scrape(url)["in_flight_records", frozenset()] == 0)
        with database.connect() as conn:
            # A writer that waits for the lock keeps something in flight.
            conn.exec_driver_sql("BEGIN IMMEDIATE")
            deployment.produce([png(100 + i) for i in range(8)])
            wait_until(lambda: scrape(url)["in_flight_records", frozenset()] > 0)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_ready(url))
            reasons = ask(f"{url}/readyz", timeout_s=30)[1]["reasons"]
            assert reasons == ["told to stop: what is in flight is being finished"]
            assert ask(f"{url}/livez", timeout_s=30)[0] == 200
            conn.exec_driver_sql("ROLLBACK")
        out, _ = process.communicate(timeout=25)
        assert (process.returncode, out.partition(",")[0]) == (0, "scored 16")


def test_a_second_signal_ends_the_worker_at_once_and_the_next_one_loses_nothing(
    deployment: Deployment, database: Engine
) -> None:
    deployment.produce([png(i) for i in range(8)])
    with started(deployment) as (process, url):
        wait_until(lambda: is_ready(url))
        with database.connect() as conn:
            conn.exec_driver_sql("BEGIN IMMEDIATE")
            deployment.produce([png(100 + i) for i in range(8)])
            wait_until(lambda: scrape(url)["in_flight_records", frozenset()] > 0)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_ready(url))
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=15)
            conn.exec_driver_sql("ROLLBACK")
        assert process.returncode == 128 + signal.SIGTERM
    deployment.drain()
    with database.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM score")) == 16


def test_a_worker_that_was_killed_is_listed_as_silent(deployment: Deployment, database: Engine) -> None:
    deployment.produce([png(i) for i in range(4)])
    with started(deployment) as (process, url):
        wait_until(lambda: is_ready(url))
        wait_until(lambda: run("health", "--database", deployment.database).exit_code == 0)
        process.kill()
        process.wait()
    with database.begin() as conn:
        conn.execute(text("UPDATE process SET beat_at = beat_at - 60000000"))
    listed = run("health", "--database", deployment.database)
    assert listed.exit_code == 4
    assert "silent" in listed.stdout
    with contextlib.suppress(EnvironmentFault):
        ask(f"{url}/livez", timeout_s=1)
        pytest.fail("a killed process answers")
    assert isinstance(run("health", "--live", "--url", url).exception, EnvironmentFault)


def test_the_doctor_prints_one_line_a_check_and_its_exit_code(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODWATCH_STATE_DIR", str(deployment.home))
    deployment.produce([png(1)])
    options = ("--database", deployment.database, "--model", deployment.model)
    healthy = run("doctor", "--source", deployment.source, *options)
    assert healthy.exit_code == 0, healthy.output
    assert len(healthy.stdout.splitlines()) == 14
    missing = run("doctor", "--source", f"spool:{deployment.home}/none/images", *options, "--json")
    states = {line["check"]: line["state"] for line in map(json.loads, missing.stdout.splitlines())}
    assert (missing.exit_code, states["source"], states["reference"]) == (4, "failed", "warning")
    assert run("doctor", "--source", "spool:x", *options).exit_code == 2


def test_a_database_that_is_down_at_the_start_is_waited_for_without_telling_its_password(
    deployment: Deployment,
) -> None:
    deployment.produce([png(1)])
    nowhere = "postgresql+psycopg://oodwatch:s3cret@127.0.0.1:1/oodwatch"
    with started(deployment, "--database", nowhere) as (process, url):
        wait_until(lambda: "refused" in str(ask(f"{url}/readyz", timeout_s=30)[1]["reasons"]))
        assert ask(f"{url}/livez", timeout_s=30)[0] == 200
        reasons = str(ask(f"{url}/readyz", timeout_s=30)[1]["reasons"])
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=25)
        assert process.returncode == 0
        assert "opening the database" in reasons
        assert "s3cret" not in reasons + err
