"""Channels as people use them: `oodwatch notify`, and the monitor that delivers."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.storage.engine import open_database
from tests.integration.typing_commands import Command
from tests.notified import T0, Request, Story, receiving
from tests.services.processes import free_port, listening, wait_until
from tests.unit.alerts.test_webhook_schema import SCHEMA, VALIDATOR

KEY = "r0uting-s3cret"


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    yield Story(engine)
    engine.dispose()


def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *lines: str) -> dict[str, str]:
    """A settings file for this process, and for those that it starts."""
    config = tmp_path / "oodwatch.toml"
    config.write_text(f'database = "sqlite:///{tmp_path / "test.db"}"\n' + "\n".join(lines) + "\n")
    monkeypatch.setenv("OODWATCH_CONFIG", str(config))
    return {"OODWATCH_CONFIG": str(config)}


def table(name: str, kind: str, **more: object) -> str:
    return f'[[channels]]\nname = "{name}"\nkind = "{kind}"\n' + "".join(
        f"{key} = {json.dumps(value)}\n" for key, value in more.items()
    )


def test_a_test_goes_through_every_channel_and_says_of_itself_that_it_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "key").write_text(KEY)
    with receiving() as receiver:
        host = receiver.url.removeprefix("http://")
        configure(
            monkeypatch,
            tmp_path,
            table("hook", "webhook", url=f"{receiver.url}/hook"),
            table("am", "alertmanager", url=f"{receiver.url}/am"),
            table("pd", "pagerduty", url=f"{receiver.url}/pd", secret_file=str(tmp_path / "key")),
            table("chat", "apprise", url=f"json://{host}/chat"),
            table("log", "stdout"),
        )
        answer = command("notify", "test")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith("{")] == [
        f"hook (webhook, {host.split(':')[0]}",
        f"am (alertmanager, {host.split(':')[0]}",
        f"pd (pagerduty, {host.split(':')[0]}",
        "chat (apprise, apprise)",
        "log (stdout, stdout)",
    ]
    assert all(line.endswith(": ok") for line in lines if not line.startswith("{"))
    VALIDATOR.validate(json.loads(next(line for line in lines if line.startswith("{"))))
    by_path: dict[str, list[Request]] = {}
    for request in receiver.requests:
        by_path.setdefault(request.path, []).append(request)
    said = {path: [json.loads(request.body) for request in requests] for path, requests in by_path.items()}
    assert said["/hook"][0]["test"] is True
    assert said["/am/api/v2/alerts"][0][0]["labels"]["alertname"] == "OodwatchTest"
    assert [event["event_action"] for event in said["/pd"]] == ["trigger", "resolve"]
    assert len({event["dedup_key"] for event in said["/pd"]}) == 1
    assert said["/pd"][0]["payload"]["summary"].startswith("TEST of oodwatch, nothing is wrong")
    assert said["/chat"][0]["title"].startswith("TEST of oodwatch, nothing is wrong")
    assert KEY not in answer.out + answer.err


def test_a_channel_that_fails_is_named_with_the_reason_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Command
) -> None:
    with receiving(lambda _request: (403, {}, b"s3cret-path is not yours")) as receiver:
        configure(
            monkeypatch,
            tmp_path,
            table("hook", "webhook", url=f"{receiver.url}/s3cret-path"),
            table("down", "webhook", url=f"http://127.0.0.1:{free_port()}/", timeout_seconds=1),
            table("log", "stdout"),
        )
        answer = command("notify", "test", "--json")
        assert answer.code == 1
        tried = [json.loads(line) for line in answer.out.splitlines()]
        assert [(line["channel"], line["ok"]) for line in tried if "ok" in line] == [
            ("hook", False),
            ("down", False),
            ("log", True),
        ]
        assert tried[0]["said"] == "answered 403 Forbidden: *** is not yours"
        assert command("notify", "test", "--channel", "log").code == 0
    command("notify", "test", "--channel", "x").refuses(2, "no channel 'x'", "known: hook, down, log")


def test_without_channels_there_is_nothing_to_test(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Command
) -> None:
    configure(monkeypatch, tmp_path)
    command("notify", "test").refuses(2, "there are no channels", "[[channels]]")


def test_the_list_shows_what_waits_was_delivered_and_given_up(
    story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Command
) -> None:
    incident = story.incident()
    with receiving(lambda request: (400 if b'"resolve"' in request.body else 200, {}, b"")) as receiver:
        configure(monkeypatch, tmp_path, table("hook", "webhook", url=receiver.url), table("log", "stdout"))
        story.event(incident, "hook", "old")
        story.event(incident, "hook", action="resolve")
        command("monitor", "--once", "--now", T0.isoformat())
        answer = command("notify", "list", "--json")
    assert answer.code == 0
    lines = {line["channel"]: line for line in map(json.loads, answer.out.splitlines())}
    assert list(lines) == ["hook", "log", "old"]
    assert lines["hook"] == {
        "channel": "hook",
        "kind": "webhook",
        "where": receiver.url.removeprefix("http://"),
        "min_state": "warning",
        "events": "pages",
        "waiting": 0,
        "delivered": 1,
        "given_up": 1,
        "oldest_waiting": None,
        "last_delivered": "2026-11-24T03:00:00Z",
        "last_error": "answered 400 Bad Request",
    }
    assert (lines["log"]["waiting"], lines["log"]["delivered"]) == (0, 0)
    assert (lines["old"]["kind"], lines["old"]["waiting"]) == ("", 1)
    assert "answered 400 Bad Request" in command("notify", "list").out


def test_the_schema_is_printed_as_it_is_packaged(command: Command) -> None:
    assert json.loads(command("notify", "schema").out) == SCHEMA


def test_wrong_channels_stop_a_monitor_at_its_start(
    story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Command
) -> None:
    configure(monkeypatch, tmp_path, table("hook", "webhook", url="gopher://s3cret"))
    command("monitor", "--once").refuses(2, "hook (webhook)", "scheme 'gopher'", "write http://")
    story.event(story.incident(), "hook")
    assert story.outbox()[0].attempts == 0


def test_once_delivers_what_is_due_pings_and_ends(
    story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Command
) -> None:
    events = [story.event(story.incident(kind=f"k{i}"), "hook") for i in range(3)]
    with receiving() as receiver:
        configure(
            monkeypatch,
            tmp_path,
            table("hook", "webhook", url=f"{receiver.url}/hook"),
            f'[deadman]\nurl = "{receiver.url}/ping"',
        )
        assert command("monitor", "--once").code == 0
    posted = [json.loads(request.body)["transition"] for request in receiver.requests if request.path == "/hook"]
    assert posted == events
    assert [request.method for request in receiver.requests if request.path == "/ping"] == ["GET"]
    assert all(row.delivered_at is not None for row in story.outbox())


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_monitor_delivers_while_a_channel_hangs_shows_it_and_ends_in_order(
    story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    incident = story.incident()
    slow_asked: list[bool] = []

    def never(_request: Request) -> None:
        slow_asked.append(True)
        wait_until(lambda: process.poll() is not None, "the end of the monitor")

    with receiving() as quick, receiving(never) as slow:
        environment = configure(
            monkeypatch,
            tmp_path,
            table("quick", "webhook", url=quick.url),
            table("slow", "webhook", url=slow.url, timeout_seconds=60),
            f'[deadman]\nurl = "{quick.url}/ping"\ninterval_seconds = 1',
            "[monitor]\ninterval_seconds = 0.1",
        )
        with listening(["monitor"], environment) as (process, url):
            story.event(incident, "quick", "slow")
            wait_until(lambda: bool(slow_asked), "the slow channel")
            story.event(incident, "quick", "slow")
            wait_until(lambda: len([key for key in quick.keys if key]) == 2, "both on the quick channel")

            def shown() -> bool:
                metrics = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
                return {
                    'oodwatch_notifications_total{channel="quick",outcome="delivered"} 2.0',
                    'oodwatch_notifications_waiting{channel="quick"} 0.0',
                    'oodwatch_notifications_waiting{channel="slow"} 2.0',
                } <= set(metrics)

            wait_until(shown, "the metrics")
            wait_until(lambda: any(request.path == "/ping" for request in quick.requests), "a ping")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            assert process.returncode == 0
    assert [(row.channel, row.attempts, row.delivered_at is None) for row in story.outbox()] == [
        ("quick", 1, False),
        ("slow", 1, True),
        ("quick", 1, False),
        ("slow", 0, True),
    ]
