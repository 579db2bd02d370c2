"""The README shows pages as they are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.browser.pictures import FOLDER, PICTURES, taken
from tests.browser.visiting import pages
from tests.readme import README

_FAR = 40  # of 255: beyond what fonts and compression do to a pixel


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pages(tmp_path_factory.mktemp("pictures")) as url:
        yield url


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_the_readme_is_what_its_page_looks_like(name: str, base: str, chromium: Browser) -> None:
    assert f"](dashboard/pictures/{name}.webp)" in README.read_text(encoding="utf-8")
    now = np.asarray(taken(chromium, base, PICTURES[name]), np.int16)
    shipped = np.asarray(Image.open(Path(FOLDER / f"{name}.webp")).convert("RGB"), np.int16)
    assert now.shape == shipped.shape
    assert len(np.unique(now.reshape(-1, 3), axis=0)) > 1_000
    differs = (np.abs(now - shipped).max(axis=2) > _FAR).mean()
    assert differs < 0.03, f"{differs:.1%} of the pixels differ: run `make pictures`, and look at them"
