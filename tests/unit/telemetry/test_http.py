import socket
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry, Gauge

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.telemetry.http import Endpoints, Server
from pipeline.telemetry.probe import Address, ask

LOCAL = Address("127.0.0.1", 0)


class Process:
    """Something to ask about."""

    def __init__(self) -> None:
        self.silent: list[str] = []
        self.unready = ["loading the model"]
        registry = CollectorRegistry()
        Gauge("oodwatch_ready", "Ready.", registry=registry).set(1)
        self.notes: list[str] = []
        endpoints = Endpoints(
            lambda: self.silent, lambda: self.unready, registry, {"version": "1.2.3"}, lambda: self.notes
        )
        self.server = Server(LOCAL, endpoints)
        self.url = self.server.url


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.server.close()


def raw(url: str, request: bytes) -> bytes:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_probes_answer_with_the_reasons(process: Process) -> None:
    assert ask(f"{process.url}/livez", timeout_s=10) == (200, {"ok": True, "reasons": []})
    assert ask(f"{process.url}/readyz", timeout_s=10) == (503, {"ok": False, "reasons": ["loading the model"]})
    process.unready, process.silent = [], ["thread poll has shown no life"]
    assert ask(f"{process.url}/readyz?verbose", timeout_s=10)[0] == 200
    assert ask(f"{process.url}/livez", timeout_s=10) == (503, {"ok": False, "reasons": process.silent})
    assert ask(f"{process.url}/healthz", timeout_s=10)[0] == 503


def test_a_note_is_told_beside_a_yes(process: Process) -> None:
    process.unready, process.notes = [], ["the promoted model is refused"]
    answer = {"ok": True, "reasons": [], "notes": process.notes}
    assert ask(f"{process.url}/readyz", timeout_s=10) == (200, answer)
    assert ask(f"{process.url}/livez", timeout_s=10) == (200, {"ok": True, "reasons": []})


def test_the_version_is_told_and_other_paths_are_not_found(process: Process) -> None:
    assert ask(f"{process.url}/version", timeout_s=10) == (200, {"version": "1.2.3"})
    assert ask(f"{process.url}/", timeout_s=10)[0] == 404


def test_metrics_are_text_or_openmetrics_as_asked_for(process: Process) -> None:
    with urlopen(f"{process.url}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"oodwatch_ready 1.0\n" in answer.read()
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    with urlopen(Request(f"{process.url}/metrics", headers=accept), timeout=10) as answer:
        assert answer.read().endswith(b"# EOF\n")


def test_head_has_no_body_and_other_methods_are_refused(process: Process) -> None:
    head, _, body = raw(process.url, b"HEAD /livez HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert (head.split()[1], body) == (b"200", b"")
    assert raw(process.url, b"POST /livez HTTP/1.0\r\nContent-Length: 0\r\n\r\n").split()[1] == b"501"


def test_connections_beyond_the_bound_are_closed_and_their_places_come_back(process: Process) -> None:
    host, port = process.url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(16)]
    with socket.create_connection((host, int(port)), timeout=10) as one_too_many:
        assert one_too_many.recv(1) == b""
    for connection in idle:
        connection.sendall(b"GET /version HTTP/1.0\r\n\r\n")
        assert b"".join(iter(lambda c=connection: c.recv(65536), b"")).startswith(b"HTTP/1.0 200")  # type: ignore[misc]
        connection.close()


def test_a_port_in_use_names_the_cure(process: Process) -> None:
    taken = Address("127.0.0.1", int(process.url.rsplit(":", 1)[1]))
    with pytest.raises(EnvironmentFault, match=r"is in use.*--http off"):
        Server(taken, Endpoints(list, list, CollectorRegistry(), {}))
    with pytest.raises(UsageError, match="address of this machine"):
        Server(Address("192.0.2.1", 0), Endpoints(list, list, CollectorRegistry(), {}))


def test_somebody_else_on_the_port_is_no_healthy_worker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentFault, match="does not answer"):
            ask(f"http://127.0.0.1:{port}/livez", timeout_s=0.05)
    with pytest.raises(EnvironmentFault, match="is the worker running"):
        ask(f"http://127.0.0.1:{port}/livez", timeout_s=10)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:9108", "http://127.0.0.1:9108"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::1]:9108", "http://[::1]:9108"),
        ("[::]:9108", "http://[::1]:9108"),
        ("monitor.local:1", "http://monitor.local:1"),
    ],
)
def test_addresses_are_read_and_reached(text: str, url: str) -> None:
    address = Address.parse(text)
    assert address is not None
    assert address.url == url


@pytest.mark.parametrize("text", ["", "9108", ":9108", "host:", "host:70000", "::1:9108", "http://host:1"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9108"):
        Address.parse(text)


def test_off_is_no_address() -> None:
    assert Address.parse("off") is None
