import asyncio
import socket
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from dashboard import markup
from dashboard.serving import Named, Place, is_loopback, listen
from pipeline.errors import EnvironmentFault, UsageError


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_alone_needs_no_sign_in(address: str) -> None:
    Place(address).check()
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.5", "watch.example.org"])
def test_an_address_that_others_reach_is_refused_where_nobody_asks_who_is_there(address: str) -> None:
    with pytest.raises(UsageError, match="--insecure"):
        Place(address).check()
    Place(address, insecure=True).check()
    Place(address, user_header="X-Forwarded-Email").check()


def test_an_address_that_is_taken_is_said_with_the_cure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EnvironmentFault, match="--port"):
            listen(Place(port=taken.getsockname()[1]))


def test_strangers_texts_never_become_markup() -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    shown = [
        markup.trust_strip(evil, evil, evil, [evil], old=True, refreshed=evil),
        markup.verdict("shift", evil, [evil]),
        markup.pictures([markup.Thumb(None, evil, evil, True), markup.Thumb(b"x", evil, evil, False)]),
        markup.bars([(evil, 0.1, 0.2, evil, True)]),
        markup.signals([(evil, evil, False, (0.1, None, 0.2))], "#123456"),
        markup.note(evil),
        markup.empty(evil, [evil], evil),
        markup.heading(evil, evil),
        markup.title(evil, evil),
        markup.table([evil], []),
    ]
    assert not [text for text in shown if "<img src=x" in text or "onerror=alert(1)>" in text]


async def _anybody(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await PlainTextResponse("a page")(scope, receive, send)


def test_who_the_proxy_has_not_named_gets_no_page_and_no_picture() -> None:
    async def ask(path: str, **headers: str) -> int:
        transport = httpx.ASGITransport(Named(_anybody, header="X-Forwarded-Email"))
        async with httpx.AsyncClient(transport=transport, base_url="http://watch") as client:
            return (
                await client.get(path, headers={name.replace("_", "-"): v for name, v in headers.items()})
            ).status_code

    async def all_of_them() -> list[int]:
        return [
            await ask("/"),
            await ask("/media/1.webp"),
            await ask("/", x_forwarded_email=" "),
            await ask("/", x_forwarded_email="dana@example.org"),
            await ask("/readyz"),
        ]

    assert asyncio.run(all_of_them()) == [401, 401, 401, 200, 200]


def test_a_connection_that_the_proxy_has_not_named_is_closed() -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Named(_anybody, header="X-User")({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
