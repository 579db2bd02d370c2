"""People sign in by a real provider of OpenID Connect: what they asked for is what they get, under their own name."""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import httpx
import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import select

from pipeline.storage.alert_schema import IncidentEventRow
from pipeline.storage.engine import open_database
from tests.browser.seeded import FOGGY, seed
from tests.browser.visiting import Visit, answers
from tests.services.availability import unavailable
from tests.services.oidc import OpenIdProvider, serving
from tests.services.processes import free_port, spawn, wait_until

WANTED = f"/incidents?incident=2&segment={FOGGY.replace('/', '%2F')}"
PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    if find_spec("authlib") is None:
        unavailable("no Authlib; `make setup` installs it")
    user = {"sub": "1", "email": "dana@example.org", "groups": ["on-call", "analysts"]}
    with serving(OpenIdProvider(user)) as served:
        yield served


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('signed')}/board.db"
    seed(url, hours=3)
    return url


@pytest.fixture(scope="module")
def base(provider: OpenIdProvider, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard's own command."""
    home, port = tmp_path_factory.mktemp("pages"), free_port()
    for name in ("client", "cookie"):
        (home / name).write_text(name * 8)
    (home / "oodwatch.toml").write_text(
        f"""
        database = "{database}"
        [dashboard]
        port = {port}
        image_groups = ["analysts"]
        operator_groups = ["on-call"]
        [dashboard.oidc]
        server_metadata_url = "{provider.url}/.well-known/openid-configuration"
        client_id = "oodwatch"
        client_secret_file = "{home / "client"}"
        redirect_uri = "http://localhost:{port}/oauth2callback"
        cookie_secret_file = "{home / "cookie"}"
        """
    )
    command = ["env", f"OODWATCH_CONFIG={home / 'oodwatch.toml'}", sys.executable, "-m", "pipeline", "dashboard"]
    process = spawn(command, output=home / "log")
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}"), "the dashboard", deadline_s=120)
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait(30)
        assert os.path.getsize(home / "log") < 100_000


def test_a_deep_link_survives_the_sign_in(base: str, provider: OpenIdProvider) -> None:
    with httpx.Client(headers=PAGE) as client:
        way = [client.get(f"{base.replace('localhost', '127.0.0.1')}{WANTED}")]
        while (following := way[-1].next_request) is not None:
            way.append(client.send(following))
        assert [answer.status_code for answer in way] == [302, 302, 302, 302, 302, 200]
        assert str(way[-1].url) == base + WANTED
        assert [path for path in provider.asked if path[1] != "."] == ["/authorize", "/token", "/keys"]
        assert client.get(f"{base}/media/none", headers={"Accept": "*/*"}).status_code == 404
        assert "oodwatch_wanted" not in client.cookies


def test_before_the_sign_in_no_route_says_anything_but_that_the_server_lives(base: str) -> None:
    for path in ("/media/none", "/_stcore/metrics", "/_stcore/host-config", "/_stcore/upload_file/1/2", "/static/x.js"):
        assert httpx.get(base + path).status_code == 401
    assert httpx.get(f"{base}/readyz").text == "ok\n"
    assert "under the name 'evil.example'" in httpx.get(base, headers={"Host": "evil.example"}).text


def test_who_is_refused_by_the_provider_is_told_and_may_try_again(base: str, provider: OpenIdProvider) -> None:
    provider.refuses = True
    try:
        answer = httpx.get(base + WANTED, headers=PAGE, follow_redirects=True)
    finally:
        provider.refuses = False
    assert answer.status_code == 403
    assert "You are not signed in" in answer.text
    assert WANTED.replace("&", "&amp;") in answer.text


def test_who_acknowledges_is_who_signed_in(base: str, database: str, chromium: Browser) -> None:
    context = chromium.new_context()
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(base + WANTED)
    expect(page.get_by_role("heading", name=f"Critical shift on {FOGGY} since 24 Nov 00:49")).to_be_visible(
        timeout=60_000
    )
    assert page.url.startswith(base + "/incidents?")
    expect(page.locator("figure img").first).to_be_visible()
    Visit(page, base).settle()
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("dana@example.org has it")).to_be_visible(timeout=60_000)
    context.close()
    engine = open_database(database)
    with engine.connect() as conn:
        events = select(IncidentEventRow.who).where(IncidentEventRow.kind == "acknowledge")
        assert conn.scalars(events).all() == ["dana@example.org"]
    engine.dispose()
