"""Every sender against servers that listen, and do not always behave."""

import contextlib
import hashlib
import hmac
import io
import json
import logging
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipeline.alerts.delivery import Undelivered
from pipeline.assembly.telling import make_channels, make_deadman
from pipeline.senders.exchange import exchange
from pipeline.senders.sender import Channel
from pipeline.settings import ChannelSettings, Settings, load_settings
from pipeline.stages.flow import Progress
from pipeline.stages.retry import Retry
from pipeline.storage.engine import make_engine, open_database
from pipeline.storage.migrations.run import upgrade
from tests.notified import T0, Clock, Request, Story, delivering, receiving
from tests.services.postgres import PostgresServer
from tests.services.processes import free_port, wait_until
from tests.unit.alerts.test_webhook_schema import VALIDATOR

KEY = "signing-key-0123456789"
Answered = tuple[int, dict[str, str], bytes]


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    yield Story(engine)
    engine.dispose()


@pytest.fixture
def verbose() -> Iterator[io.StringIO]:
    """What `oodwatch --verbose` shows: all loggers, from INFO on."""
    shown = io.StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(shown)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield shown
    root.setLevel(level)
    root.removeHandler(handler)


def settings_of(*channels: dict[str, object]) -> Settings:
    return load_settings(channels=[ChannelSettings.model_validate(channel) for channel in channels])


def webhook(url: str, tmp_path: Path, *, clock: Clock | None = None, **more: object) -> Channel:
    """A signed one."""
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    settings = settings_of({"name": "hook", "kind": "webhook", "url": url, "secret_file": key, **more})
    return make_channels(settings, clock or Clock())[0]


def scripted(*answers: Answered | None) -> Callable[[Request], Answered | None]:
    """One answer after the other, then 200."""
    left = list(answers)
    return lambda _request: left.pop(0) if left else (200, {}, b"")


def test_a_webhook_is_signed_has_its_key_and_is_of_the_schema(story: Story, tmp_path: Path) -> None:
    with receiving() as receiver:
        event = story.event(story.incident(), "hook", segment="Süd <b>")
        delivering(story.engine, Clock(), webhook(f"{receiver.url}/in?token=abc", tmp_path)).once()
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/in?token=abc")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("oodwatch/")
    said = dict(part.split("=") for part in request.headers["oodwatch-signature"].split(","))
    expected = hmac.new(KEY.encode(), said["t"].encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(expected, said["v1"])
    assert int(said["t"]) == int(T0.timestamp())
    told = json.loads(request.body)
    VALIDATOR.validate(told)
    assert (told["transition"], told["action"], told["segment"]) == (event, "trigger", "Süd <b>")
    assert receiver.keys == [f"20261124T030000.000000Z-{event}"]


def test_a_lost_answer_leads_to_a_repetition_with_the_same_key_so_that_it_counts_once(
    story: Story, tmp_path: Path
) -> None:
    clock = Clock()
    with receiving(scripted(None, None)) as receiver:  # received, but the connection is cut before the answer
        channel = webhook(receiver.url, tmp_path, clock=clock)
        incident = story.incident()
        events = [story.event(incident, "hook") for _ in range(3)]
        for _ in range(3):
            delivering(story.engine, clock, channel).once()
            clock.now += timedelta(minutes=1)
    assert len(receiver.keys) == 5
    counted = list(dict.fromkeys(receiver.keys))  # as a receiver does that remembers keys
    assert counted == [f"20261124T030000.000000Z-{event}" for event in events]
    assert all(row.delivered_at is not None for row in story.outbox())


@pytest.mark.parametrize(
    ("answer", "error", "wait_s"),
    [
        ((500, {}, b"<h1>oops</h1>\n"), "answered 500 Internal Server Error: <h1>oops</h1>", 5),
        ((503, {"retry-after": "77"}, b""), "answered 503 Service Unavailable", 77),
        ((429, {"retry-after": "Tue, 24 Nov 2026 03:02:00 GMT"}, b""), "answered 429 Too Many Requests", 120),
        ((408, {}, b""), "answered 408 Request Timeout", 5),
        ((404, {"retry-after": "5"}, b"no such hook"), "answered 404 Not Found: no such hook", None),
        ((302, {"location": "/elsewhere"}, b""), "answered 302 Found; no redirect is followed", None),
        ((307, {"location": "http://127.0.0.1:1/"}, b""), "answered 307 Temporary Redirect; no redirect", None),
    ],
)
def test_what_a_server_answers_decides_whether_and_when_it_is_asked_again(
    story: Story, tmp_path: Path, answer: Answered, error: str, wait_s: float | None
) -> None:
    with receiving(scripted(answer)) as receiver:
        story.event(story.incident(), "hook")
        clock = Clock()
        channel = webhook(receiver.url, tmp_path, clock=clock)
        delivering(story.engine, clock, channel).once()
        (row,) = story.outbox()
        assert row.last_error.startswith(error)
        if wait_s is None:
            assert row.given_up_at == T0
        else:
            assert row.next_try_at == T0 + timedelta(seconds=wait_s)
            clock.now = row.next_try_at
            delivering(story.engine, clock, channel).once()
            assert story.outbox()[0].delivered_at == clock.now
    assert len(receiver.requests) == (1 if wait_s is None else 2)
    assert {request.path for request in receiver.requests} == {"/"}
    assert len(set(receiver.keys)) == 1


def test_a_server_that_is_down_is_asked_again_and_gets_all_in_order(story: Story, tmp_path: Path) -> None:
    port, clock = free_port(), Clock()
    channel = webhook(f"http://127.0.0.1:{port}", tmp_path, clock=clock)
    incident = story.incident()
    events = [story.event(incident, "hook", action=action) for action in ("trigger", "acknowledge", "resolve")]
    for _ in range(3):
        delivering(story.engine, clock, channel).once()
        clock.now = story.outbox()[0].next_try_at
    assert [row.attempts for row in story.outbox()] == [3, 0, 0]
    assert "connect" in story.outbox()[0].last_error.lower()
    with receiving(port=port) as receiver:
        delivering(story.engine, clock, channel).once()
    assert [json.loads(request.body)["transition"] for request in receiver.requests] == events


@contextmanager
def dripping(piece: bytes, first: bytes = b"") -> Iterator[str]:
    """A server that sends a byte or so, again and again, and never ends an answer."""
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(first)
                    while not over.wait(0.02):
                        connection.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
    finally:
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nx-slow: "])
def test_a_server_that_drips_bytes_holds_an_attempt_no_longer_than_its_time(first: bytes) -> None:
    with dripping(b"a", first) as url, pytest.raises(Undelivered, match=r"no answer within 0\.2 s") as raised:
        exchange("POST", url, now=T0, timeout_s=0.2, content=b"{}")
    assert not raised.value.final


def test_the_status_counts_where_the_body_never_ends() -> None:
    with dripping(b"a", b"HTTP/1.1 204 No Content\r\ncontent-length: 99999\r\n\r\n") as url:
        exchange("GET", url, now=T0, timeout_s=60)
    with (
        dripping(b"why ", b"HTTP/1.1 404 Not Found\r\ncontent-length: 99999\r\n\r\n") as url,
        pytest.raises(Undelivered, match="answered 404") as raised,
    ):
        exchange("GET", url, now=T0, timeout_s=2)
    assert raised.value.final


def test_what_is_no_http_and_what_is_too_large_is_a_failure(story: Story) -> None:
    with dripping(b"", b"220 mail.example.com ESMTP\r\n") as url, pytest.raises(Undelivered):
        exchange("POST", url, now=T0, timeout_s=1, content=b"{}")
    with receiving() as receiver, pytest.raises(Undelivered, match="more than 524,288") as raised:
        exchange("POST", receiver.url, now=T0, timeout_s=1, content=b"x" * (512 * 1024 + 1))
    assert raised.value.final
    assert receiver.requests == []


def test_pagerduty_is_told_the_whole_life_of_an_incident_by_one_key(story: Story, tmp_path: Path) -> None:
    key = tmp_path / "routing"
    key.write_text("R0UT1NGKEYR0UT1NGKEYR0UT1NGKEY01")
    with receiving(scripted((202, {}, b'{"status":"success"}'))) as receiver:
        settings = settings_of(
            {"name": "pd", "kind": "pagerduty", "url": f"{receiver.url}/v2/enqueue", "secret_file": key}
        )
        channels = make_channels(settings, Clock())
        incident = story.incident()
        for action in ("trigger", "acknowledge", "info", "resolve"):
            story.event(incident, "pd", action=action)
        delivering(story.engine, Clock(), *channels).once()
    said = [json.loads(request.body) for request in receiver.requests]
    assert [body["event_action"] for body in said] == ["trigger", "acknowledge", "resolve"]
    assert {body["dedup_key"] for body in said} == {f"oodwatch/d/{incident}"}
    assert {body["routing_key"] for body in said} == {"R0UT1NGKEYR0UT1NGKEYR0UT1NGKEY01"}
    assert {request.path for request in receiver.requests} == {"/v2/enqueue"}
    assert all(row.delivered_at is not None for row in story.outbox())


def apprise(url: str, name: str = "mail") -> Channel:
    return make_channels(settings_of({"name": name, "kind": "apprise", "url": url, "timeout_seconds": 5}), Clock())[0]


@contextmanager
def refusing_mail() -> Iterator[int]:
    """A mail server that refuses everybody."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"554 5.7.1 go away\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def test_a_mail_server_that_refuses_is_a_failure_that_waits(story: Story, verbose: io.StringIO) -> None:
    story.event(story.incident(), "mail")
    with refusing_mail() as port:
        url = f"mailto://watcher:hunter2pass@127.0.0.1:{port}?from=a@example.com&to=oncall@example.com&mode=insecure"
        delivering(story.engine, Clock(), apprise(url)).once()
    (row,) = story.outbox()
    assert (row.attempts, row.given_up_at) == (1, None)
    assert row.next_try_at == T0 + timedelta(seconds=5)
    assert row.last_error.startswith("Connection error while submitting email")
    for secret in ("hunter2pass", url):
        assert secret not in verbose.getvalue() + row.last_error


def test_apprise_sends_plain_text_in_which_nothing_of_others_can_act(story: Story) -> None:
    with receiving() as receiver:
        channel = apprise(f"json://{receiver.url.removeprefix('http://')}/in")
        story.event(story.incident(), "mail", segment="<b>[x](http://evil) @everyone")
        story.event(1, "mail", action="resolve")
        delivering(story.engine, Clock(), channel).once()
    first, last = (json.loads(request.body) for request in receiver.requests)
    assert first["title"].startswith("CRITICAL d · ok")
    assert "segment: ‹b›(x)(http://evil) ＠everyone" in first["message"]
    assert (first["type"], last["type"]) == ("failure", "success")
    assert last["title"].startswith("RESOLVED d")


def test_an_apprise_service_that_raises_is_a_failure(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.custom_json import NotifyJSON

    def burst(*_: object, **__: object) -> bool:
        raise RuntimeError("inside of a plug-in")

    monkeypatch.setattr(NotifyJSON, "send", burst)
    story.event(story.incident(), "mail")
    delivering(story.engine, Clock(), apprise("json://127.0.0.1:1/in")).once()
    (row,) = story.outbox()
    assert (row.attempts, row.delivered_at, row.given_up_at) == (1, None, None)
    assert row.last_error


def test_the_dead_mans_address_is_asked_and_its_failure_is_said_without_it(verbose: io.StringIO) -> None:
    with receiving(scripted((200, {}, b""), (410, {}, b"gone"))) as receiver:
        settings = load_settings(deadman={"url": f"{receiver.url}/ping/8f14e45fceea167a", "interval_seconds": 60})
        deadman = make_deadman(settings.deadman, Clock())
        assert deadman is not None
        deadman.ping()
        with pytest.raises(Undelivered, match="answered 410 Gone: gone"):
            deadman.ping()
    assert [(request.method, request.path) for request in receiver.requests] == [("GET", "/ping/8f14e45fceea167a")] * 2
    assert "8f14e45fceea167a" not in verbose.getvalue() + repr(settings)


def test_no_secret_of_any_channel_is_logged_or_stored_whatever_goes_wrong(
    story: Story, tmp_path: Path, verbose: io.StringIO
) -> None:
    address = "http://127.0.0.1:1/s3cret-in-a-file"
    for name, content in (("sign", "s1gning-s3cret"), ("route", "r0uting-s3cret"), ("hook", address)):
        (tmp_path / name).write_text(content)

    def echo(request: Request) -> Answered:
        """The worst of servers repeats all that it was asked."""
        return (
            500,
            {},
            f"{request.path} authorization {request.headers.get('authorization')} ".encode() + request.body[:100],
        )

    with receiving(echo) as receiver:
        host = receiver.url.removeprefix("http://")
        settings = settings_of(
            {"name": "a", "kind": "webhook", "url": f"http://ann:pa55-s3cret@{host}/path-s3cret?k=query-s3cret",
             "secret_file": tmp_path / "sign"},
            {"name": "b", "kind": "webhook", "url_file": tmp_path / "hook"},
            {"name": "c", "kind": "pagerduty", "url": receiver.url, "secret_file": tmp_path / "route"},
            {"name": "d", "kind": "alertmanager", "url": f"http://bob:b0b-s3cret@{host}/prefix-s3cret"},
            {"name": "e", "kind": "apprise", "url": f"json://user:appr1se-s3cret@{host}/path-s3cret"},
        )  # fmt: skip
        story.event(story.incident(), *"abcde")
        telling = delivering(story.engine, Clock(), *make_channels(settings, Clock()))
        telling.once()
    assert len(receiver.requests) == 4 + 1  # Alertmanager's was also renewed
    rows = story.outbox()
    assert [row.attempts for row in rows] == [1] * 5
    channels = make_channels(settings, Clock())
    written = verbose.getvalue() + repr(settings) + repr(channels) + " ".join(row.last_error for row in rows)
    assert "s3cret" not in written
    assert b64encode(b"ann:pa55-s3cret").decode() not in written  # the server has repeated it
    assert written.count("authorization Basic ***") >= 2
    assert written.count("was not delivered") == 5


def test_an_outage_of_the_database_in_the_middle_of_an_attempt_does_not_repeat_it(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    engine: Engine = make_engine(postgres_server.url(postgres_server.create_database()))
    upgrade(engine)
    story, stop, answer = Story(engine), threading.Event(), threading.Event()

    def late(_request: Request) -> Answered:
        answer.wait()
        return 200, {}, b""

    with receiving(late) as receiver:
        channel = webhook(receiver.url, tmp_path, timeout_seconds=60)
        story.event(story.incident(), "hook")
        retry = Retry(engine.url, stop, progress=Progress())
        telling = delivering(engine, Clock(), channel, retry=retry)
        thread = threading.Thread(target=telling.run, args=(stop,), kwargs={"grace_s": 10})
        thread.start()
        wait_until(lambda: len(receiver.requests) == 1, "the attempt")
        postgres_server.kill()
        answer.set()
        wait_until(lambda: telling.told.outcomes["hook", "delivered"] == 1, "its end")
        postgres_server.start()

        def stored() -> bool:
            telling.nudge()
            return bool(story.outbox()[0].delivered_at == T0)

        wait_until(stored, "the outcome")
        stop.set()
        telling.nudge()
        thread.join(60)
    assert len(receiver.requests) == 1
    engine.dispose()
