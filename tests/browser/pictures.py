"""The README's pictures, from pages over a day of made-up traffic: python -m tests.browser.pictures"""

import io
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import dashboard
from tests.browser.visiting import DESK, PHONE, Visit, pages

FOLDER = Path(dashboard.__file__).with_name("pictures")


class Shown(NamedTuple):
    """A page as it is pictured."""

    path: str
    size: dict[str, int]
    scheme: Literal["light", "dark"]


PICTURES = {
    "overview": Shown("/", DESK, "light"),
    "samples": Shown("/samples?incident=2", DESK, "dark"),
    "phone": Shown("/", PHONE, "light"),
}


def taken(browser: Browser, base: str, shown: Shown) -> Image.Image:
    """One picture, once nothing moves any more."""
    given: dict[str, Any] = {"viewport": shown.size, "color_scheme": shown.scheme, "timezone_id": "UTC"}
    context = browser.new_context(**given)
    context.set_default_timeout(60_000)
    visit = Visit(context.new_page(), base)
    visit.go(shown.path)
    visit.page.wait_for_timeout(500)  # Vega draws after the script has ended
    picture = Image.open(io.BytesIO(visit.page.screenshot()))
    context.close()
    return picture.convert("RGB")


def main() -> None:
    """Take all of them anew."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, pages(Path(home)) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, shown in PICTURES.items():
            taken(browser, base, shown).save(FOLDER / f"{name}.webp", quality=80, method=6)
            print(FOLDER / f"{name}.webp")  # noqa: T201
        browser.close()


if __name__ == "__main__":
    main()
