"""A small HTTP server for probes and scrapes: GET and HEAD, bounded, in daemon threads.

/livez     200, or 503 with the silent threads        /healthz is the same
/readyz    200, or 503 with the reasons
/metrics   Prometheus text or OpenMetrics, as asked for
/version   what runs here
"""

import errno
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.telemetry.probe import Address

logger = logging.getLogger(__name__)

_MAX_CONNECTIONS = 16  # more are closed unanswered: a scraper comes back
_TIMEOUT_S = 5.0  # a client that sends or reads more slowly is dropped


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What is answered. Called from the server's threads: quick, and without a lock that work may hold."""

    live: Callable[[], Sequence[str]]  # reasons against; none: alive
    ready: Callable[[], Sequence[str]]
    registry: CollectorRegistry
    version: Mapping[str, str]
    notes: Callable[[], Sequence[str]] = tuple  # what a person should know besides; no reason against

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        match path:
            case "/livez" | "/healthz":
                return _verdict(self.live())
            case "/readyz":
                return _verdict(self.ready(), self.notes())
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return 200, content_type, encode(self.registry)
            case "/version":
                return _json(200, self.version)
        return _json(404, {"error": f"no {path} here; there are /livez, /readyz, /metrics and /version"})


class Server:
    """Answers from now on until `close`.

    Raises EnvironmentFault where the address is taken, UsageError where it is none of this machine.
    """

    def __init__(self, address: Address, endpoints: Endpoints) -> None:
        try:
            self._server = _Bounded(address, endpoints)
        except OSError as error:
            where = f"{address.host}:{address.port}"
            if error.errno == errno.EADDRINUSE:
                raise EnvironmentFault(
                    f"{where} is in use, perhaps by another worker; name another port with --http HOST:PORT,"
                    " or --http off"
                ) from error
            raise UsageError(f"--http {where}: {error.strerror or error}; name an address of this machine") from error
        self.url = Address(address.host, self._server.server_address[1]).url
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; requests at work are not waited for."""
        self._server.shutdown()
        self._server.server_close()


class _Bounded(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: Address, endpoints: Endpoints) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.endpoints = endpoints
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__((address.host, address.port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that one asks the name service for this machine's full name, which may hang.
        socket_address = self.server_address
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(socket_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a request from %s ended early", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Bounded
    timeout = _TIMEOUT_S
    server_version = "oodwatch"
    sys_version = ""

    def do_GET(self) -> None:
        status, content_type, body = self.server.endpoints.answer(
            self.path.partition("?")[0], self.headers.get("Accept", "")
        )
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def _verdict(reasons: Sequence[str], notes: Sequence[str] = ()) -> tuple[int, str, bytes]:
    answer = {"ok": not reasons, "reasons": list(reasons)} | ({"notes": list(notes)} if notes else {})
    return _json(503 if reasons else 200, answer)


def _json(status: int, values: Mapping[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(dict(values), ensure_ascii=False).encode() + b"\n"
