"""Signing in by OpenID Connect: Streamlit's own routes speak it, this gate stands before them and all else.

Two things they leave open are closed here: what is no page is served to whoever asks, and who has signed in lands on
the first page, whatever link was followed.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from streamlit.auth_util import get_cookie_with_chunks
from streamlit.user_info import generate_login_redirect_url
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from dashboard.gates import PROBES, Asgi, Scope, refuse

_Message = MutableMapping[str, Any]
_LOGIN, _LOGOUT, _BACK = "/auth/login", "/auth/logout", "/oauth2callback"
_WANTED = "oodwatch_wanted"  # the cookie that remembers a link
_REMEMBERED_S = 600
_LONGEST = 2_000


@dataclass(frozen=True, slots=True)
class Provider:
    """Who knows the users, and what these pages are to it."""

    server_metadata_url: str
    client_id: str
    client_secret: str
    redirect_uri: str  # these pages' own address, with /oauth2callback behind it
    cookie_secret: str
    scope: str = "openid email profile"

    @property
    def host(self) -> str:
        """The name under which the pages are visited."""
        return urlsplit(self.redirect_uri).hostname or ""

    @property
    def origin(self) -> str:
        """The same with scheme and port."""
        parts = urlsplit(self.redirect_uri)
        return f"{parts.scheme}://{parts.netloc}"

    def secrets(self) -> dict[str, Any]:
        """As Streamlit wants them."""
        return {
            "auth": {
                "redirect_uri": self.redirect_uri,
                "cookie_secret": self.cookie_secret,
                "client_id": self.client_id,
                "client_secret": self.client_secret,
                "server_metadata_url": self.server_metadata_url,
                "client_kwargs": {"scope": self.scope},
            }
        }


class SignedIn:
    """Lets through who has signed in; a page that somebody else asks for is shown after that."""

    def __init__(self, app: Asgi, *, provider: Provider) -> None:
        self._app = app
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "lifespan" or scope["path"] in (*PROBES, _LOGOUT):
            await self._app(scope, receive, send)
        elif scope["path"] == _LOGIN:
            await self._held(scope, receive, send, _provider_answers, _away())
        elif scope["path"] == _BACK:
            wanted = safe(Request(scope).cookies.get(_WANTED, ""))
            await self._held(scope, receive, send, lambda start: _arrived(start, wanted), _failed(wanted))
        elif scope["type"] in ("http", "websocket") and is_signed_in(HTTPConnection(scope).cookies):
            await self._app(scope, receive, send)
        elif _is_page(scope):
            await self._send_to_sign_in(Request(scope))(scope, receive, send)
        else:
            await refuse(scope, receive, send, 401, "nobody is signed in: open a page first")

    def _send_to_sign_in(self, request: Request) -> Response:
        wanted = _asked(request.scope)
        if request.url.netloc != urlsplit(self._provider.redirect_uri).netloc:
            return RedirectResponse(self._provider.origin + wanted, 302)  # cookies of another name would not come back
        answer = RedirectResponse(generate_login_redirect_url("default"), 302, {"Cache-Control": "no-store"})
        secure = self._provider.origin.startswith("https:")
        answer.set_cookie(_WANTED, quote(wanted, safe=""), _REMEMBERED_S, httponly=True, samesite="lax", secure=secure)
        return answer

    async def _held(
        self, scope: Scope, receive: Any, send: Any, change: Callable[[_Message], bool], otherwise: Response
    ) -> None:
        """Let Streamlit answer; where `change` makes nothing of how the answer starts, send the other one."""
        kept = True

        async def hold(message: _Message) -> None:
            nonlocal kept
            if message["type"] == "http.response.start":
                kept = change(message)
            if kept:
                await send(message)

        await self._app(scope, receive, hold)
        if not kept:
            await otherwise(scope, receive, send)


def is_signed_in(cookies: Mapping[str, str]) -> bool:
    """Whether Streamlit's cookie is there, and was signed with this server's key less than a month ago."""

    def read(name: str) -> bytes | None:
        return decode_signed_value(get_cookie_secret(), name, cookies.get(name, ""))

    return get_cookie_with_chunks(read, USER_COOKIE_NAME) is not None


def safe(remembered: str) -> str:
    """The link of a cookie, if it leads to a page of these; else the first page.

    A browser takes `//host` and `/\\host` for another server's address, also with control characters between.
    """
    wanted = unquote(remembered)
    plain = wanted.isascii() and wanted.isprintable() and not set(wanted) & set(" \\")
    leads_here = wanted.startswith("/") and not wanted.startswith("//") and len(wanted) <= _LONGEST
    return wanted if plain and leads_here and not wanted.startswith(("/auth/", _BACK)) else "/"


def _asked(scope: Scope) -> str:
    """Path and query as they came, percent-encoded."""
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _is_page(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    headers = Request(scope).headers
    return headers.get("sec-fetch-mode", "navigate") == "navigate" and "text/html" in headers.get("accept", "")


def _provider_answers(start: _Message) -> bool:
    return bool(start["status"] < 400)


def _arrived(start: _Message, wanted: str) -> bool:
    """Send who has a cookie now to what was wanted; whether there is one."""
    cookie = f"{USER_COOKIE_NAME}=".encode()
    set_now = [value for name, value in start["headers"] if name == b"set-cookie" and value.startswith(cookie)]
    if not any(value.removeprefix(cookie).strip(b'"')[:1] not in (b"", b";") for value in set_now):
        return False
    kept = [(name, value) for name, value in start["headers"] if name != b"location"]
    forget = f"{_WANTED}=; Path=/; Max-Age=0; HttpOnly; SameSite=lax"
    start["headers"] = [*kept, (b"location", wanted.encode("ascii")), (b"set-cookie", forget.encode())]
    return True


def _failed(wanted: str) -> Response:
    return HTMLResponse(
        "<!doctype html><title>oodwatch</title><p>You are not signed in: it was refused, or took too long. The server's"
        f' log has the reason. <a href="{escape(wanted)}">Try again</a></p>',
        403,
    )


def _away() -> Response:
    return HTMLResponse(
        "<!doctype html><title>oodwatch</title><p>The service that signs people in does not answer. Scoring is not"
        ' affected. <a href="/">Try again</a></p>',
        502,
    )
