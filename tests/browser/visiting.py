"""A page in a browser, and how to wait for it."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Page

from tests.browser.seeded import seed
from tests.services.processes import free_port, spawn, wait_until

DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
#: Streamlit looks for its health beside a deep link first, and finds it at the root.
_HARMLESS = ("/_stcore/health", "/_stcore/host-config")


@dataclass
class Visit:
    """A page in a browser of its own, and what went wrong in it."""

    page: Page
    base: str
    faults: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def go(self, path: str) -> None:
        """Open an address and wait until nothing moves any more."""
        self.page.goto(self.base + path)
        self.settle()

    def settle(self) -> None:
        """The script has ended, no skeleton is left, pictures have come, every chart is drawn."""
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        self.page.wait_for_function(
            """() => document.querySelector('.ow-trust') && !document.querySelector('[data-testid="stSkeleton"]')
            && [...document.images].every(image => image.complete)
            && [...document.querySelectorAll('[data-testid="stVegaLiteChart"]')].every(
                chart => chart.offsetParent === null || chart.querySelector('svg, canvas'))"""
        )

    def hours_after_midnight(self) -> float:
        """Where the chart has the onset (5 px left of its label), by the labels of midnight and of three o'clock."""
        places = []
        for text in ("24 Nov", "03:00", "began"):
            box = self.page.locator(".st-key-line svg text").filter(has_text=text).first.bounding_box()
            assert box is not None
            places.append(box["x"] - 5 if text == "began" else box["x"] + box["width"] / 2)
        midnight, three, onset = places
        return 3 * (onset - midnight) / (three - midnight)

    def note(self, url: str, status: int) -> None:
        """An answer that came."""
        if status >= 400 and not urlsplit(url).path.endswith(_HARMLESS):
            self.faults.append(f"{status} {url}")


def answers(url: str) -> bool:
    """Whether the dashboard there is up."""
    try:
        return httpx.get(f"{url}/livez").status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def pages(home: Path, *, hours: int = 24) -> Iterator[str]:
    """The address of pages over so many hours of made-up traffic, served by a process of their own."""
    port = free_port()
    seed(f"sqlite:///{home}/board.db", hours=hours)
    command = [sys.executable, "-m", "tests.browser", str(home / "board.db"), "--port", str(port)]
    process = spawn(command, output=home / "server.log")
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url), "the dashboard", deadline_s=120)
        yield url
    finally:
        process.terminate()
        process.wait(30)
