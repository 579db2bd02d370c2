"""The machine's browser; a module that uses it says by a fixture `base` which pages it visits."""

import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.visiting import DESK, Visit
from tests.services.availability import unavailable


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The machine's own."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        unavailable("no Chromium; install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visit(base: str, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A browser in Berlin; at its end nothing may have failed, nor any other host have been asked."""
    marker = request.node.get_closest_marker("screen")
    given: dict[str, Any] = {"viewport": DESK, **(marker.kwargs if marker else {})}
    context = chromium.new_context(timezone_id="Europe/Berlin", **given)
    context.set_default_timeout(60_000)
    seen = Visit(context.new_page(), base)
    seen.page.on("pageerror", lambda error: seen.faults.append(str(error)))
    seen.page.on("request", lambda asked: seen.hosts.add(urlsplit(asked.url).netloc))
    seen.page.on("response", lambda answer: seen.note(answer.url, answer.status))
    yield seen
    context.close()
    assert seen.faults == []
    assert {host for host in seen.hosts if host} == {urlsplit(base).netloc}
