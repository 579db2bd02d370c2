"""What only a browser shows: the first hit, time zones, phones, colours, where requests go."""

import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.seeded import FOGGY
from tests.browser.visiting import PHONE, Visit, pages

PINNED = "from=1795481340000&to=1795489200000"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pages, as a process of its own; the first request is the first test's."""
    with pages(tmp_path_factory.mktemp("pages"), hours=8) as url:
        yield url


def test_a_deep_link_as_the_servers_first_request_shows_its_incident_within_all_pages(visit: Visit) -> None:
    visit.go("/incidents?incident=2")
    expect(visit.page.get_by_role("heading", name=f"Critical shift on {FOGGY} since 00:49")).to_be_visible()
    for name in ("Overview", "Incidents", "Explore", "Samples", "Coverage", "Models", "Pipeline"):
        expect(visit.page.get_by_test_id("stSidebarNav").get_by_text(name, exact=True)).to_be_visible()


def test_charts_are_in_utc_in_berlin_too_unless_the_reader_wants_the_browsers_zone(visit: Visit) -> None:
    visit.go("/")
    assert visit.hours_after_midnight() == pytest.approx(0.82, abs=0.45)
    visit.page.get_by_text("local", exact=True).click()
    expect(visit.page.get_by_role("heading", name=f"on {FOGGY} since 01:49")).to_be_visible()
    visit.settle()
    visit.page.wait_for_timeout(500)  # Vega draws after the script has ended
    assert visit.hours_after_midnight() == pytest.approx(1.82, abs=0.45)


def test_a_pinned_window_survives_other_pages_until_the_reader_goes_back_to_live(visit: Visit) -> None:
    visit.go(f"/?{PINNED}")
    expect(visit.page.get_by_text("00:49 to 03:00, pinned")).to_be_visible()
    visit.page.get_by_test_id("stSidebarNav").get_by_text("Explore", exact=True).click()
    expect(visit.page.get_by_role("heading", name="2026-11-24 00:49 UTC to 03:00, all traffic")).to_be_visible()
    visit.settle()
    assert PINNED in visit.page.url
    visit.page.get_by_role("button", name="Back to live").click()
    expect(visit.page.get_by_text("last 24 h")).to_be_visible()
    visit.settle()
    assert "from=" not in visit.page.url


def test_a_view_without_a_segment_goes_along_to_other_pages_and_is_saved_as_one_page(visit: Visit) -> None:
    visit.go(f"/explore?{PINNED}&against=1795460400000-1795474800000")
    chooser = visit.page.get_by_test_id("stSidebar").get_by_label("Without")
    chooser.click()
    visit.page.get_by_role("option", name="tunnel").click()
    visit.page.keyboard.press("Escape")
    expect(visit.page.get_by_text("A view without 1 segment: tunnel.")).to_be_visible()
    expect(visit.page.get_by_role("heading", name="all but 1 segment").first).to_be_visible()
    visit.settle()
    with visit.page.expect_download() as saving:
        visit.page.get_by_role("button", name="Save as one page").click()
    saved = saving.value.path().read_text()
    assert "Left out: tunnel" in saved
    assert "2026-11-24 00:49 to 2026-11-24 03:00 UTC against 2026-11-23 19:00 to 2026-11-23 23:00 UTC" in saved
    assert "://" not in saved.replace("http://www.w3.org/2000/svg", "")
    visit.page.get_by_test_id("stSidebarNav").get_by_text("Models", exact=True).click()
    expect(visit.page.get_by_role("heading", name="What if the threshold were another? all but 1")).to_be_visible()
    visit.settle()
    assert "without=tunnel" in visit.page.url
    visit.page.get_by_role("button", name="Bring them back").click()
    expect(visit.page.get_by_text("A view without")).not_to_be_visible()
    assert "without=" not in visit.page.url


@pytest.mark.screen(viewport=PHONE)
def test_on_a_phone_the_answer_comes_before_the_charts_and_nothing_is_cut_off(visit: Visit) -> None:
    visit.go("/")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    tops = [
        visit.page.locator(of).first.bounding_box() for of in (".ow-verdict h1", ".ow-pictures", ".st-key-line-phone")
    ]
    heights = [box["y"] for box in tops if box is not None]
    assert heights == sorted(heights)
    assert len(heights) == 3
    last = visit.page.locator(".ow-pictures figure img").nth(7).bounding_box()
    assert last is not None
    assert last["y"] + last["height"] <= PHONE["height"]
    expect(visit.page.locator(".st-key-strip")).not_to_be_visible()
    link = visit.page.locator(".st-key-open a").bounding_box()
    assert link is not None
    assert link["height"] >= 48


@pytest.mark.screen(color_scheme="dark")
def test_in_the_dark_lines_are_light(visit: Visit) -> None:
    visit.go("/")
    paper = visit.page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert paper == "rgb(23, 22, 20)"
    assert visit.page.locator('.st-key-line svg path[stroke="#56B4E9"]').count() > 0


def test_of_two_who_acknowledge_at_once_the_second_sees_what_the_first_did(visit: Visit, chromium: Browser) -> None:
    visit.go("/incidents?incident=2")
    other = chromium.new_context().new_page()
    other.goto(f"{visit.base}/incidents?incident=2")
    quick = other.get_by_role("button", name="Acknowledge")
    expect(quick).to_be_visible(timeout=60_000)
    visit.page.get_by_placeholder("robin").fill("dana")
    visit.page.get_by_placeholder("robin").press("Enter")
    visit.settle()
    visit.page.get_by_role("button", name="Acknowledge").click()
    expect(visit.page.get_by_text("dana has it")).to_be_visible()
    quick.click()
    expect(other.get_by_text("dana has acknowledged it; nothing was changed.")).to_be_visible(timeout=60_000)
    expect(other.get_by_text("dana has it")).to_be_visible(timeout=60_000)
    expect(other.get_by_role("button", name="Acknowledge")).not_to_be_visible()
    other.context.close()


def test_what_is_noted_stands_in_the_history_with_its_author(visit: Visit) -> None:
    visit.go("/incidents?incident=2")
    visit.page.get_by_role("button", name="Note").click()
    visit.page.get_by_label("What others should know").fill("<b>fog</b> over the ring")
    visit.page.get_by_test_id("stPopoverBody").get_by_role("button", name="Note").click()
    row = visit.page.locator(".ow table tr").filter(has_text="<b>fog</b> over the ring")
    expect(row).to_contain_text("robin")


def test_three_keys_judge_images_one_takes_back_and_all_go_to_be_labelled(visit: Visit) -> None:
    visit.go("/incidents?incident=2")
    visit.page.get_by_role("link", name="Look at its images").click()
    expect(visit.page.get_by_role("heading", name=f"Strangest since 00:49, {FOGGY}")).to_be_visible()
    visit.settle()
    for key, judged in (("1", 1), ("3", 2), ("2", 3), ("u", 2)):
        visit.page.keyboard.press(key)
        expect(visit.page.get_by_text(f"{judged} of 24 judged")).to_be_visible()
    expect(visit.page.get_by_label("Look closer at")).to_have_value("3")
    expect(visit.page.locator("figure .mark")).to_have_text(["real shift", "bad input"])
    visit.page.get_by_role("button", name="Choose all shown").click()
    visit.page.get_by_text("originals, where the log has them").click()  # while the boxes are still being drawn
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Download 24 with originals for labelling").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        endings = Counter(name.rpartition(".")[2] for name in archive.namelist())
    assert endings["csv"] == endings["json"] == 1
    assert endings["png"] + endings["webp"] == 24
    assert endings["png"] > endings["webp"] > 0
    visit.page.get_by_test_id("stSidebarNav").get_by_text("Incidents", exact=True).click()
    expect(visit.page.get_by_text("1 real shift, 1 bad input")).to_be_visible()


@pytest.mark.parametrize(
    "visit",
    [pytest.param(scheme, marks=pytest.mark.screen(color_scheme=scheme)) for scheme in ("light", "dark")],
    indirect=True,
)
@pytest.mark.parametrize("path", ["/", "/incidents", "/coverage", "/samples"])
def test_axe_finds_nothing_serious(visit: Visit, path: str) -> None:
    rules = Path(sys.prefix) / "axe.min.js"
    if not rules.exists():
        pytest.skip("no axe-core; `make setup` fetches it where there is npm")
    visit.go(path)
    visit.page.wait_for_timeout(500)  # Vega draws after the script has ended
    visit.page.evaluate(rules.read_text())
    found = visit.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    violations = [(one["impact"], one["id"], one["nodes"][0]["html"]) for one in found["violations"]]
    assert [one for one in violations if one[0] in ("serious", "critical")] == []


def test_a_page_of_another_name_reads_nothing(base: str) -> None:
    assert httpx.get(base, headers={"Host": "evil.example"}).status_code == 400
    assert httpx.get(f"{base}/readyz").text == "ok\n"
