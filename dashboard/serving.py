"""The server: Streamlit as an ASGI application, and who may reach it."""

import gc
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import streamlit as st
import uvicorn
from sqlalchemy.exc import DBAPIError
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streamlit import config

from dashboard.board import Board, board, give
from dashboard.style import THEME
from pipeline.errors import EnvironmentFault, OodwatchError, UsageError
from pipeline.storage.engine import reading, revision_problem, stored_revision

logger = logging.getLogger(__name__)

_Asgi = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

_OPTIONS: dict[str, Any] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "client.toolbarMode": "minimal",
    "runner.magicEnabled": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.maxUploadSize": 1,
    "server.showEmailPrompt": False,
    **THEME,
}
#: What the first page, chart and picture import, and the first visitor would wait for.
_SOON_NEEDED = ("dashboard.menu", "pandas", "pyarrow", "PIL.Image")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where pages are served, and for whom."""

    address: str = "127.0.0.1"
    port: int = 8501
    hosts: Sequence[str] = ()  # names that a browser may ask for, besides the address itself
    user_header: str | None = None  # a proxy in front names the user in it; who comes without is refused
    insecure: bool = False

    def check(self) -> None:
        """Raises UsageError for an address that strangers can reach, where nobody asks who they are."""
        if self.user_header is None and not self.insecure and not is_loopback(self.address):
            raise UsageError(
                f"--address {self.address} can be reached from other machines, and nobody asks who is there: put a"
                " proxy that signs people in before it and name the header in which it passes the user (--user-header"
                " X-Forwarded-Email), or add --insecure"
            )


class Named:
    """Lets through who the proxy has named, also to what is no page: images, uploads, the connection itself."""

    def __init__(self, app: _Asgi, *, header: str) -> None:
        self._app = app
        self._header = header.lower().encode("latin-1")

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """One request."""
        open_to_all = scope["type"] == "lifespan" or scope.get("path") in ("/livez", "/readyz")
        if open_to_all or any(name == self._header and value.strip() for name, value in scope["headers"]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse("the proxy in front did not say who you are", 401)(scope, receive, send)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach it; a name counts as what others can reach, but for localhost."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def application(parts: Board, place: Place) -> st.App:
    """The pages with their probes. Raises UsageError, see `Place.check`."""
    place.check()
    give(parts)
    options = {**_OPTIONS, "server.address": place.address, "server.port": place.port}
    for name, value in options.items():
        config.set_option(name, value)
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=_hosts(place))]
    if place.user_header is not None:
        middleware.append(Middleware(Named, header=place.user_header))
    return st.App(
        Path(__file__).with_name("app.py"),
        routes=[Route("/livez", _live), Route("/readyz", _ready)],
        middleware=middleware,
        on_script_error=_note_error,
    )


def serve(parts: Board, place: Place, *, say: Callable[[str], None] = lambda text: None) -> None:
    """Serve the pages until SIGINT or SIGTERM.

    Raises UsageError, see `Place.check`; EnvironmentFault where the address is taken.
    """
    app = application(parts, place)
    _prepare()
    listening = listen(place)
    settings = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    say(f"http://{place.address}:{listening.getsockname()[1]}/")
    with listening:
        uvicorn.Server(settings).run(sockets=[listening])


def _prepare() -> None:
    """Before anybody comes: import, and spare the collector what stays.

    Streamlit collects all garbage after each run of a page: two thirds of a refresh went over what libraries hold.
    """
    caching = logging.getLogger("streamlit.runtime.caching.cache_data_api")
    caching.disabled = True  # it misses the runtime, which comes with the server
    for name in _SOON_NEEDED:
        import_module(name)
    caching.disabled = False
    gc.collect()
    gc.freeze()


def listen(place: Place) -> socket.socket:
    """A socket on that address. Raises EnvironmentFault where it is taken."""
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((place.address, place.port))
    except OSError as error:
        listening.close()
        raise EnvironmentFault(
            f"cannot listen on {place.address}:{place.port}: {error.strerror or error}; name another one with --port"
        ) from error
    return listening


def _hosts(place: Place) -> list[str]:
    """A page of a stranger whose name leads to this address must not read these pages."""
    if place.hosts:
        return [*place.hosts, *_LOOPBACK_NAMES]
    if is_loopback(place.address):
        return [*_LOOPBACK_NAMES, place.address]
    return ["*"]  # how others call this machine is not known here


def _live(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


def _ready(_request: Request) -> PlainTextResponse:
    engine = reading(board().engine)
    try:
        with engine.connect() as conn:
            problem = revision_problem(engine.url, stored_revision(conn))
    except (DBAPIError, OodwatchError):
        problem = "the database does not answer"
    return PlainTextResponse("ok\n" if problem is None else f"{problem}\n", 200 if problem is None else 503)


def _note_error(error: Exception) -> bool:
    logger.error("a page could not be made", exc_info=error)
    return False  # Streamlit says that there was an error, and nothing of it
