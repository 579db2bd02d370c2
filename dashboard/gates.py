"""Who may pass to the pages, and to whatever else is served beside them. ASGI: each gate stands before the next."""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse

Asgi = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]
Scope = MutableMapping[str, Any]

#: What orchestrators ask; it tells nothing but whether the pages work.
PROBES = ("/livez", "/readyz", "/_stcore/health")
SECRET_HEADER = "X-Oodwatch-Proxy-Secret"
LOOPBACK = ("127.0.0.0/8", "::1/128")
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Proxy:
    """What signs people in, in front of the pages."""

    header: str  # in which it names the user
    networks: Sequence[str] = LOOPBACK  # from which it comes
    secret: str | None = None  # that it sends in SECRET_HEADER


class Hosts:
    """Lets through what asks for one of these names: another's page that leads here must not read these."""

    def __init__(self, app: Asgi, *, names: Sequence[str]) -> None:
        self._app = app
        self._names = {name.lower().strip("[]") for name in names}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "lifespan" or _host(scope) in self._names:
            await self._app(scope, receive, send)
            return
        shown = repr(_host(scope))[:_LONGEST_SHOWN]
        told = f"nothing is served here under the name {shown}; if it is this server's, add it to dashboard.hosts"
        await refuse(scope, receive, send, 400, told)


class Named:
    """Lets through whom the trusted proxy has named, also to what is no page: files, uploads, the connection itself."""

    def __init__(self, app: Asgi, *, proxy: Proxy) -> None:
        self._app = app
        self._proxy = proxy
        self._networks = [ipaddress.ip_network(one, strict=False) for one in proxy.networks]

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "lifespan" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        why = self._refusal(scope)
        if why is None:
            await self._app(scope, receive, send)
        else:
            await refuse(scope, receive, send, 401, why)

    def _refusal(self, scope: Scope) -> str | None:
        peer = (scope.get("client") or ("",))[0]
        if not self._is_trusted(peer):
            return (
                f"{peer or 'this address'} is not the proxy that signs people in (dashboard.proxies): come by its own"
            )
        if self._proxy.secret is not None:
            given = values(scope, SECRET_HEADER)
            if len(given) != 1 or not hmac.compare_digest(given[0].encode(), self._proxy.secret.encode()):
                return f"the proxy in front did not send its secret in {SECRET_HEADER} (dashboard.proxy_secret_file)"
        names = values(scope, self._proxy.header)
        if len(names) > 1:
            return f"{self._proxy.header} came twice: the proxy in front has to replace what a visitor sends in it"
        if not names or not names[0].strip():
            return "the proxy in front did not say who you are"
        return None

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network for network in self._networks)


async def refuse(scope: Scope, receive: Any, send: Any, status: int, why: str) -> None:
    """Answer with a line; close a connection."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await PlainTextResponse(why + "\n", status, {"Cache-Control": "no-store"})(scope, receive, send)


def values(scope: Scope, name: str) -> list[str]:
    """All that came under a header's name."""
    wanted = name.lower().encode("latin-1")
    return [value.decode("latin-1") for key, value in scope["headers"] if key == wanted]


def _host(scope: Scope) -> str:
    """What the request asks for, without its port; empty where that is no one name."""
    given = values(scope, "host")
    host = given[0].strip().lower() if len(given) == 1 else ""
    name, _, port = host.rpartition(":")
    if name and port.isdecimal() and not (":" in name and not name.endswith("]")):
        host = name
    return host.strip("[]").rstrip(".")
