"""A provider of OpenID Connect that signs everybody in as one user: discovery, code, token, keys."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit


@dataclass
class OpenIdProvider:
    """What it says of its only user; `refuses`: it lets nobody in."""

    user: dict[str, Any]
    refuses: bool = False
    url: str = ""
    asked: list[str] = field(default_factory=list)  # paths, in order
    _codes: dict[str, tuple[str, str]] = field(default_factory=dict)  # client and nonce, by code

    @cached_property
    def _key(self) -> Any:
        from joserfc.jwk import RSAKey  # comes with Authlib

        return RSAKey.generate_key(2048, {"kid": "1"})

    def answer(self, path: str, asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.asked.append(path)
        if path == "/authorize":
            return 302, {"Location": f"{asked['redirect_uri']}?{urlencode(self._authorize(asked))}"}, b""
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "/.well-known/openid-configuration": self._discovery,
            "/token": lambda: self._token(asked["code"]),
            "/keys": lambda: {"keys": [self._key.as_dict(private=False)]},
        }
        return 200, {"Content-Type": "application/json"}, json.dumps(answers[path]()).encode()

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def _authorize(self, asked: dict[str, str]) -> dict[str, str]:
        if self.refuses:
            return {"error": "access_denied", "state": asked["state"]}
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked["client_id"], asked["nonce"]
        return {"code": code, "state": asked["state"]}

    def _token(self, code: str) -> dict[str, Any]:
        from joserfc import jwt

        client, nonce = self._codes.pop(code)
        now = int(time.time())
        claims = {"iss": self.url, "aud": client, "iat": now, "exp": now + 300, "nonce": nonce, **self.user}
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self._key)
        return {"access_token": "opaque", "token_type": "Bearer", "expires_in": 300, "id_token": token}


@contextmanager
def serving(provider: OpenIdProvider) -> Iterator[OpenIdProvider]:
    """Answer on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._send(parts.path, {name: found[0] for name, found in parse_qs(parts.query).items()})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._send(self.path, {name: found[0] for name, found in parse_qs(body).items()})

        def _send(self, path: str, asked: dict[str, str]) -> None:
            status, headers, body = provider.answer(path, asked)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
