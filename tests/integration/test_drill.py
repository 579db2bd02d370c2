"""A drill, with a real worker and a real monitor: everybody is told, and no statistic and no incident knows of it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.assembly.monitoring import run_monitor
from pipeline.assembly.parts import required_source, settings_from
from pipeline.assembly.sources import open_appender
from pipeline.assembly.working import run_worker
from pipeline.storage.alert_schema import IncidentEventRow, IncidentRow, OutboxRow
from pipeline.storage.engine import open_database
from pipeline.storage.schema import RollUpPartRow, ScoreRow, TickRow
from tests.alerted import rows
from tests.integration.test_notify import table
from tests.integration.typing_commands import Command
from tests.notified import receiving
from tests.services.processes import wait_until
from tests.tiny import Deployment, energies, pixels, png
from tests.unit.alerts.test_webhook_schema import VALIDATOR

SEEDS = range(20_000, 20_400)


@pytest.fixture
def odd(deployment: Deployment, template: Deployment, tmp_path: Path) -> Path:
    """The most unusual pictures of a few hundred, and one that is no picture."""
    folder = tmp_path / "odd"
    folder.mkdir()
    unusual = energies(np.stack([pixels(seed) for seed in SEEDS]), template.home / "weights.pt")
    for i in np.argsort(unusual)[-3:]:
        (folder / f"{i}.png").write_bytes(png(SEEDS[int(i)]))
    return folder


def configure(monkeypatch: pytest.MonkeyPatch, deployment: Deployment, *channels: str) -> None:
    config = deployment.home / "oodwatch.toml"
    top = {"database": deployment.database, "model": str(deployment.model)}
    config.write_text(
        "\n".join(
            [
                *(f"{name} = {json.dumps(value)}" for name, value in top.items()),
                f"[source]\nurl = {json.dumps(deployment.source)}",
                '[http]\nlisten = "off"',
                "[monitor]\ninterval_seconds = 0.1",
                *channels,
            ]
        )
    )
    monkeypatch.setenv("OODWATCH_CONFIG", str(config))


@contextmanager
def running(*, monitor: bool = True) -> Iterator[None]:
    """A worker, and a monitor, until the end of the block."""
    settings, stop = settings_from(), threading.Event()
    open_appender(required_source(settings), {}, partitions=1, timeout_s=1, on_refused=lambda *_: None).close()
    reading = threading.Event()
    threads = [
        threading.Thread(
            target=run_worker,
            args=(settings,),
            kwargs={"start_at": "earliest", "drain": False, "stop": stop, "say": lambda text: reading.set()},
        )
    ]
    if monitor:
        threads.append(
            threading.Thread(target=run_monitor, args=(settings,), kwargs={"once": False, "now": None, "stop": stop})
        )
    for thread in threads:
        thread.start()
    try:
        wait_until(reading.is_set, "the worker")
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_everybody_is_told_and_nothing_else_knows_of_it(
    deployment: Deployment, odd: Path, monkeypatch: pytest.MonkeyPatch, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("r0uting")
    with receiving() as receiver:
        configure(
            monkeypatch,
            deployment,
            table("hook", "webhook", url=f"{receiver.url}/hook", min_state="critical"),
            table("pd", "pagerduty", url=f"{receiver.url}/pd", secret_file=str(tmp_path / "key")),
            table("am", "alertmanager", url=f"{receiver.url}/am"),
        )
        with running():
            answer = command("drill", "--images", odd, "--segment", "cam-3", "--name", "ann", "--json")
    assert answer.code == 0, answer.out + answer.err
    done = json.loads(answer.out)
    assert (done["images"], done["scored"], done["flagged"], done["dead"]) == (3, 3, 3, {})
    assert [(one["channel"], one["attempts"], one["error"]) for one in done["channels"]] == [
        ("hook", 1, None),
        ("pd", 1, None),
        ("am", 1, None),
    ]
    order = [done["sent_s"], done["first_stored_s"], done["stored_s"], done["told_s"]]
    assert order == sorted(order)
    assert all(one["delivered_s"] >= done["told_s"] for one in done["channels"])
    told = {request.path: json.loads(request.body) for request in receiver.requests}
    assert (told["/hook"]["drill"], told["/hook"]["value"], told["/hook"]["segment"]) == (True, 1.0, "cam-3")
    VALIDATOR.validate(told["/hook"])
    assert told["/pd"]["payload"]["summary"].startswith("DRILL of oodwatch, nothing is wrong")
    assert told["/am/api/v2/alerts"][0]["labels"]["alertname"] == "OodwatchDrill"
    engine = open_database(deployment.database)
    assert [row["kind"] for row in rows(engine, IncidentRow)] == ["drill"]
    assert [(row["kind"], row["who"]) for row in rows(engine, IncidentEventRow)] == [("note", "ann")] * 2
    assert [(row["action"], row["delivered_at"] is None) for row in rows(engine, OutboxRow)] == [
        *[("trigger", False)] * 3,
        *[("resolve", True)] * 3,  # their turn comes a minute later
    ]
    assert all(row["drill"] for row in rows(engine, ScoreRow))
    assert rows(engine, TickRow) == rows(engine, RollUpPartRow) == []
    engine.dispose()
    assert command("alerts", "--all").out == "no incident yet\n"
    command("why").refuses(2, "there is no incident")


def test_where_nobody_delivers_the_drill_fails_and_is_never_told(
    deployment: Deployment, odd: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    configure(monkeypatch, deployment, table("log", "stdout"))
    with running(monitor=False):
        answer = command("drill", "--images", odd, "--timeout", 5)
    assert answer.code == 1
    assert "log: not told within the time, after 0 attempts: is a monitor running? (`oodwatch health`)" in answer.out
    engine = open_database(deployment.database)
    assert [(row["action"], row["given_up_at"] is None, row["last_error"]) for row in rows(engine, OutboxRow)] == [
        ("trigger", False, "the drill was over before"),
        ("resolve", False, "the drill was over before"),
    ]
    engine.dispose()


def test_images_that_are_not_flagged_tell_nobody(
    deployment: Deployment, template: Deployment, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    configure(monkeypatch, deployment, table("log", "stdout"))
    usual = energies(np.stack([pixels(seed) for seed in SEEDS]), template.home / "weights.pt")
    folder = deployment.home / "usual"
    folder.mkdir()
    (folder / "0.png").write_bytes(png(SEEDS[int(np.argmin(usual))]))
    (folder / "1.png").write_bytes(b"no image")
    with running(monitor=False):
        answer = command("drill", "--images", folder)
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert lines[1].endswith(" s, 0 are flagged; dead letters: 1 undecodable")
    assert lines[2:] == ["none is flagged, so nobody is told: show it odder images with --images"]
    engine = open_database(deployment.database)
    assert rows(engine, IncidentRow) == rows(engine, OutboxRow) == []
    engine.dispose()


def test_what_cannot_be_is_refused_in_one_line(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    configure(monkeypatch, deployment)
    command("drill").refuses(2, "nothing has been scored yet", "`oodwatch worker`")
    command("drill", "--deployment", "x").refuses(2, "there is no deployment 'x'", "a worker makes it")
    (deployment.home / "none").mkdir()
    command("drill", "--images", deployment.home / "none").refuses(2, "no image in it")
