"""Who passes each gate, and what is said to the others."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from dashboard.gates import SECRET_HEADER, Hosts, Named, Proxy
from dashboard.signing_in import Provider, SignedIn, safe

Gate = Hosts | Named | SignedIn
PROVIDER = Provider("https://id.example/", "us", "secret", "https://watch.example/oauth2callback", "c" * 32)


async def anybody(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await PlainTextResponse("a page")(scope, receive, send)


def ask(gate: Gate, path: str = "/", *, peer: str = "127.0.0.1", **headers: Any) -> httpx.Response:
    given: Any = headers.pop("headers", None) or {name.replace("_", "-"): value for name, value in headers.items()}

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(gate, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="https://watch.example") as client:
            return await client.get(path, headers=given)

    return asyncio.run(get())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("watch.example", 200),
        ("WATCH.example.:8501", 200),
        ("[::1]:8501", 200),
        ("evil.example", 400),
        ("watch.example.evil.example", 400),
        ("watch.example@evil.example", 400),
        ("", 400),
    ],
)
def test_a_page_of_another_name_reads_nothing_and_is_told_which_setting_names_names(host: str, status: int) -> None:
    answer = ask(Hosts(anybody, names=["watch.example", "::1"]), host=host)
    assert answer.status_code == status
    assert (f"nothing is served here under the name {host!r}" in answer.text) == (status == 400)
    assert ("dashboard.hosts" in answer.text) == (status == 400)


def test_a_forged_host_closes_the_connection_that_pages_live_on() -> None:
    assert closed(Hosts(anybody, names=["a"]), headers=[(b"host", b"evil.example")])


def test_who_the_proxy_has_not_named_gets_no_page_and_no_picture() -> None:
    gate = Named(anybody, proxy=Proxy("X-User"))
    assert ask(gate).status_code == 401
    assert ask(gate, "/media/1.webp").status_code == 401
    assert ask(gate, x_user=" ").text == "the proxy in front did not say who you are\n"
    assert ask(gate, x_user="dana@example.org").status_code == 200
    assert ask(gate, "/readyz").status_code == 200
    assert closed(gate)


def test_a_name_counts_only_from_the_proxys_address_with_the_proxys_secret_and_once() -> None:
    gate = Named(anybody, proxy=Proxy("X-User", ("10.1.0.0/16",), "s3cret"))
    good = {"X-User": "dana", SECRET_HEADER: "s3cret"}
    assert ask(gate, peer="10.1.2.3", headers=good).status_code == 200
    assert ask(gate, peer="::ffff:10.1.2.3", headers=good).status_code == 200
    assert "127.0.0.1 is not the proxy" in ask(gate, headers=good).text
    assert "did not send its secret" in ask(gate, peer="10.1.2.3", headers={"X-User": "dana"}).text
    assert "did not send its secret" in ask(gate, peer="10.1.2.3", headers={**good, SECRET_HEADER: "s3creT"}).text
    twice = [*good.items(), ("X-User", "root")]
    assert "X-User came twice" in ask(gate, peer="10.1.2.3", headers=twice).text


def test_without_a_sign_in_nothing_but_the_way_to_it_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.signing_in.generate_login_redirect_url", lambda name: f"/auth/login?provider={name}")
    gate = SignedIn(anybody, provider=PROVIDER)
    for path in ("/media/1.webp", "/_stcore/upload_file/1/2", "/thumb/1", "/_stcore/metrics", "/component/x/y.js"):
        assert ask(gate, path, accept="*/*").text == "nobody is signed in: open a page first\n"
    assert ask(gate, "/incidents", accept="text/html", sec_fetch_mode="no-cors").status_code == 401
    assert closed(gate)
    answer = ask(gate, "/incidents?incident=2&segment=a%2Fb", accept="text/html,*/*")
    assert (answer.status_code, answer.headers["location"]) == (302, "/auth/login?provider=default")
    kept = (
        "oodwatch_wanted=%2Fincidents%3Fincident%3D2%26segment%3Da%252Fb; HttpOnly; Max-Age=600; Path=/; SameSite=lax"
    )
    assert answer.headers["set-cookie"] == f"{kept}; Secure"
    elsewhere = ask(gate, "/incidents?incident=2", accept="text/html", host="127.0.0.1:8501")
    assert elsewhere.headers["location"] == "https://watch.example/incidents?incident=2"
    assert ask(gate, "/livez").text == "a page"


def test_a_cookie_that_somebody_else_has_signed_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

    monkeypatch.setattr("dashboard.signing_in.get_cookie_secret", lambda: "c" * 32)
    gate = SignedIn(anybody, provider=PROVIDER)
    for secret, status in (("c" * 32, 200), ("d" * 32, 401)):
        value = create_signed_value(secret, "_streamlit_user", '{"email": "dana"}').decode()
        assert ask(gate, "/media/1", cookie=f"_streamlit_user={value}").status_code == status
    assert ask(gate, "/media/1", cookie="_streamlit_user=x").status_code == 401


@pytest.mark.parametrize(
    ("remembered", "leads_to"),
    [
        ("%2Fincidents%3Fincident%3D2", "/incidents?incident=2"),
        ("", "/"),
        ("https%3A%2F%2Fevil.example", "/"),
        ("%2F%2Fevil.example", "/"),
        ("%2F%5Cevil.example", "/"),
        ("%2F%09%2Fevil.example", "/"),
        ("%2Fa%0D%0ASet-Cookie%3A%20x%3Dy", "/"),
        ("%2Fauth%2Flogout", "/"),
        ("%2Foauth2callback%3Fcode%3D1", "/"),
        ("%2F" + "a" * 3000, "/"),
    ],
)
def test_after_a_sign_in_only_an_address_of_these_pages_is_gone_to(remembered: str, leads_to: str) -> None:
    assert safe(remembered) == leads_to


def test_who_has_signed_in_gets_what_was_asked_for_and_who_has_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def streamlit(*cookies: str) -> SignedIn:
        async def callback(scope: Any, receive: Any, send: Any) -> None:
            answer: Response = RedirectResponse("/", 302)
            for cookie in cookies:
                answer.headers.append("set-cookie", cookie)
            await answer(scope, receive, send)

        return SignedIn(callback, provider=PROVIDER)

    wanted = "oodwatch_wanted=%2Fincidents%3Fincident%3D2"
    done = ask(streamlit("_streamlit_user=abc; Path=/"), "/oauth2callback?code=1", cookie=wanted)
    assert (done.status_code, done.headers["location"]) == (302, "/incidents?incident=2")
    assert "oodwatch_wanted=; Path=/; Max-Age=0" in done.headers["set-cookie"]
    for cookies in ((), ('_streamlit_user=""; Max-Age=0; Path=/',)):
        failed = ask(streamlit(*cookies), "/oauth2callback?error=access_denied", cookie=wanted)
        assert failed.status_code == 403
        assert 'href="/incidents?incident=2">Try again' in failed.text


def test_where_the_provider_is_away_that_is_said() -> None:
    async def login(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("Authentication error", 400)(scope, receive, send)

    answer = ask(SignedIn(login, provider=PROVIDER), "/auth/login?provider=x")
    assert answer.status_code == 502
    assert "The service that signs people in does not answer." in answer.text


def closed(gate: Gate, headers: list[tuple[bytes, bytes]] | None = None) -> bool:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/_stcore/stream", "headers": headers or [], "client": ("127.0.0.1", 1)}
    asyncio.run(gate(scope, receive, send))
    return sent == [{"type": "websocket.close", "code": 1008}]
