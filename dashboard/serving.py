"""The server: Streamlit as an ASGI application, and who may reach it."""

import gc
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import streamlit as st
import uvicorn
from sqlalchemy.exc import DBAPIError
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streamlit import config

from dashboard.board import Board, board, give
from dashboard.gates import SECRET_HEADER, Hosts, Named, Proxy
from dashboard.signing_in import Provider, SignedIn
from dashboard.style import THEME
from pipeline.errors import EnvironmentFault, OodwatchError, UsageError
from pipeline.storage.engine import reading, revision_problem, stored_revision

logger = logging.getLogger(__name__)

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
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_SECRET_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where pages are served, and for whom."""

    address: str = "127.0.0.1"
    port: int = 8501
    hosts: Sequence[str] = ()  # names that a browser may ask for, besides the address itself
    proxy: Proxy | None = None  # signs people in, in front; whom it has not named is refused
    provider: Provider | None = None  # knows the users, who sign in here
    insecure: bool = False

    def check(self) -> None:
        """Raises UsageError for an address that strangers can reach, where nobody asks who they are, or in vain."""
        if self.proxy is not None and self.provider is not None:
            raise UsageError(
                "dashboard.user_header and dashboard.oidc: either a proxy in front signs people in, or here"
            )
        if self.proxy is not None and self.proxy.secret is not None:
            _check_secret("proxy_secret_file", self.proxy.secret)
        if self.provider is not None:
            _check_provider(self.provider, insecure=self.insecure)
        elif is_loopback(self.address) or self.insecure:
            return
        elif self.proxy is None:
            raise UsageError(
                f"--address {self.address} can be reached from other machines, and nobody asks who is there: put a"
                " proxy that signs people in before it and name the header in which it passes the user (--user-header"
                " X-Forwarded-Email), let people sign in here ([dashboard.oidc]), or add --insecure"
            )
        elif self.proxy.secret is None:
            raise UsageError(
                f"--address {self.address} can be reached from other machines, where anybody could send the header"
                f" {self.proxy.header}: let the proxy send a secret of at least {_SECRET_CHARACTERS} characters in"
                f" {SECRET_HEADER}, and name its file in dashboard.proxy_secret_file"
            )


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach it; a name counts as what others can reach, but for localhost."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _check_provider(provider: Provider, *, insecure: bool) -> None:
    parts = urlsplit(provider.redirect_uri)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path != "/oauth2callback":
        raise UsageError(
            f"dashboard.oidc.redirect_uri = {provider.redirect_uri!r}: write the address under which these pages are"
            " visited, with /oauth2callback behind it, as https://watch.example.org/oauth2callback"
        )
    if parts.scheme == "http" and not is_loopback(provider.host) and not insecure:
        raise UsageError(
            f"dashboard.oidc.redirect_uri = {provider.redirect_uri!r}: without https whoever listens takes a user's"
            " place; put TLS before it, or add --insecure"
        )
    _check_secret("oidc.cookie_secret_file", provider.cookie_secret)


def _check_secret(setting: str, secret: str) -> None:
    if len(secret) < _SECRET_CHARACTERS:
        raise UsageError(
            f"dashboard.{setting}: {len(secret)} characters can be guessed; write at least {_SECRET_CHARACTERS} random"
            " ones into it"
        )
    if find_spec("authlib") is None:
        raise UsageError("signing in here takes Authlib, which is not installed; run `pip install authlib`")


def application(parts: Board, place: Place) -> st.App:
    """The pages with their probes. Raises UsageError, see `Place.check`."""
    place.check()
    give(parts)
    options = {**_OPTIONS, "server.address": place.address, "server.port": place.port}
    for name, value in options.items():
        config.set_option(name, value)
    middleware = []
    if (names := names_of(place)) is not None:
        middleware.append(Middleware(Hosts, names=names))
    if place.proxy is not None:
        middleware.append(Middleware(Named, proxy=place.proxy))
    if place.provider is not None:
        middleware.append(Middleware(SignedIn, provider=place.provider))
    return st.App(
        Path(__file__).with_name("app.py"),
        secrets=None if place.provider is None else place.provider.secrets(),
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
        proxy_headers=False,  # or whoever speaks from this machine says in a header who asks
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


def names_of(place: Place) -> list[str] | None:
    """Names that browsers may ask for; None: any, for how others call this machine is not known here."""
    named = [*place.hosts, *([] if place.provider is None else [place.provider.host])]
    if named or is_loopback(place.address):
        return [*named, *_LOOPBACK_NAMES, place.address]
    return None


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
