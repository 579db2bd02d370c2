"""A person points at what is strange in a sample: a real model, a real process beside the pages, a real browser."""

import io
import os
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.visiting import Visit, answers
from tests.segmenting import SAM
from tests.services.processes import free_port, spawn, wait_until
from tests.tiny import Deployment, make_deployment, png


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Some usual images, and a strange one."""
    deployment = make_deployment(tmp_path_factory.mktemp("scored"), side=64)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[8:28, 8:28] = 90
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    deployment.produce([*(png(i) for i in range(6)), out.getvalue()])
    deployment.drain()
    return deployment


@pytest.fixture(scope="module", params=["sam", "components", "absent"])
def base(request: pytest.FixtureRequest, scored: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard's own command, with the explaining process beside it or without."""
    home, port, other = tmp_path_factory.mktemp("explained"), free_port(), free_port()
    sam = f'sam = "{SAM}"' if request.param == "sam" else ""
    (home / "oodwatch.toml").write_text(
        f'state_dir = "{home}"\n[source]\nurl = "{scored.source}"\n[explain]\nport = {other}\n{sam}\n'
    )
    words = ["dashboard", "--database", scored.database, "--model", str(scored.model), "--port", str(port)]
    with_it = [] if request.param == "absent" else ["--explain"]
    settings = [f"OODWATCH_CONFIG={home / 'oodwatch.toml'}", "OMP_NUM_THREADS=1"]
    process = spawn(["env", *settings, sys.executable, "-m", "pipeline", *words, *with_it], output=home / "log")
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url), "the dashboard", deadline_s=120)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        assert os.path.getsize(home / "log") < 100_000


PICTURE = '.st-key-pick [data-testid="stVegaLiteChart"] :is(svg, canvas).marks'


def with_(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("base", [name], indirect=True)


def open_sample(visit: Visit) -> None:
    """The strangest one."""
    visit.go("/samples")
    visit.page.get_by_text("Where is it strange?").click()
    expect(visit.page.get_by_role("heading", name="Where is it strange?")).to_be_visible()


def click(visit: Visit, x: float, y: float) -> None:
    """At a place of the picture, in shares of its sides."""
    picture = visit.page.locator(PICTURE).first
    box = picture.bounding_box()
    assert box is not None
    visit.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


@with_("sam")
def test_a_click_gives_three_masks_a_further_one_refines_the_chosen_and_each_says_what_it_accounts_for(
    visit: Visit,
) -> None:
    open_sample(visit)
    expect(visit.page.get_by_text("Click on something in the picture")).to_be_visible(timeout=120_000)
    click(visit, 0.3, 0.3)
    for number in (1, 2, 3):
        expect(visit.page.locator("figcaption b").filter(has_text=f"mask {number}: ")).to_contain_text("nats")
    expect(visit.page.get_by_text("by sam@")).to_be_visible()
    visit.page.get_by_text("mask 2", exact=True).click()
    visit.page.get_by_text("it is not here", exact=True).click()
    visit.settle()
    click(visit, 0.8, 0.8)
    expect(visit.page.locator("figcaption b").filter(has_text="mask 2: ")).to_have_count(0)
    expect(visit.page.locator("figcaption b").filter(has_text="mask 1: ")).to_contain_text("nats")
    expect(visit.page.get_by_text("Which one do you mean?")).to_have_count(0)


@with_("components")
def test_without_weights_the_page_lives_and_says_that_this_is_not_segment_anything(visit: Visit) -> None:
    open_sample(visit)
    expect(visit.page.get_by_text("Regions by components (not Segment Anything)")).to_be_visible(timeout=120_000)
    picture = visit.page.locator(PICTURE).first.bounding_box()
    assert picture is not None
    corner, side = (picture["x"], picture["y"]), picture["width"]
    visit.page.mouse.move(corner[0] + 0.08 * side, corner[1] + 0.08 * side)
    visit.page.mouse.down()
    visit.page.mouse.move(corner[0] + 0.3 * side, corner[1] + 0.3 * side)
    visit.page.mouse.move(corner[0] + 0.5 * side, corner[1] + 0.5 * side)
    visit.page.mouse.up()
    expect(visit.page.locator("figcaption").filter(has_text="mask 1: ")).to_contain_text("10 % of the image")
    visit.page.get_by_role("button", name="Begin anew").click()
    expect(visit.page.get_by_text("Click on something in the picture")).to_be_visible()
    visit.page.get_by_role("button", name="Find it by itself").click()
    expect(visit.page.get_by_text("change of score")).to_be_visible()


@with_("absent")
def test_where_nobody_explains_the_page_says_how_to_start_it(visit: Visit) -> None:
    open_sample(visit)
    expect(visit.page.get_by_text("oodwatch explain --serve --model MODEL --sam SAM")).to_be_visible()
