"""Explore: one window in words, its line with what surrounds it, and what changed against another one."""

from dataclasses import replace

import streamlit as st

from dashboard import data, frame, looks, markup, trends
from dashboard.board import board
from dashboard.compared import compared
from dashboard.facts import FEW
from dashboard.frame import Page
from dashboard.links import View
from dashboard.saving import saving
from dashboard.scene import Scene, scene_of, trust_strip
from dashboard.times import ago
from dashboard.windows import MINUTE, Window


def show() -> None:
    """The page."""
    frame.show(draw)


def draw(page: Page) -> None:
    """The window is the address's, else the last hours of the range."""
    scene = _of_window(scene_of(page, board()))
    window = page.window
    trust_strip(page, scene.trusted)
    n, flags = _counted(scene)
    title = f"{page.clock.span(*window)}, {scene.name}"
    share = f", {flags / n:.1%} unusual".replace("%", " %") if n >= FEW else ""
    st.html(markup.title(title, f"{ago(window.length)}, n {n:,}{share}"))
    if n == 0:
        _nothing(scene)
        return
    with st.container(key="body"):
        left, right = st.columns([8, 4])
    with left:
        if n < FEW:
            st.html(markup.note(f"n = {n}, too few to judge."))
        _line(scene)
        compared(scene)
    with right:
        looks.pictures(scene)
        looks.histogram(scene)
        saving(scene, flags)
        frame.link("samples", "All samples of this window", replace(page.view, window=window))


def _of_window(scene: Scene) -> Scene:
    """The window itself is what is looked at, and not an incident's time."""
    window = scene.page.window
    quiet = replace(scene.verdict, onset=window.start if scene.page.view.window else scene.verdict.onset)
    return replace(scene, since=window.start, until=window.end, verdict=quiet, segment=scene.page.view.segment)


def _line(scene: Scene) -> None:
    page = scene.page
    shown = replace(scene, page=replace(page, window=_around(page), is_live=False))  # all of it, on a phone too
    began = "this window" if page.view.window else "began"
    for place in ("wide", "phone"):
        with st.container(key=place):
            trends.line(shown, phone=place == "phone", began=began)


def _around(page: Page) -> Window:
    """Half a window to either side; never past now."""
    half = page.window.length / 2
    if page.is_live:
        return page.window
    return Window(page.window.start - half, min(page.window.end + half, page.now))


def _counted(scene: Scene) -> tuple[int, int]:
    own = scene.page.key, scene.stands.deployment.id
    n, flags = data.totals(*own, scene.since, scene.until, without=scene.without).get(scene.key, (0, 0))
    return n, flags


def _nothing(scene: Scene) -> None:
    page, newest = scene.page, scene.stands.newest_image
    st.html(markup.empty("No image was scored in this window.", ("Nothing is drawn rather than zero.",)))
    if newest is not None:
        nearest = Window(newest - page.window.length, newest + MINUTE)
        frame.link("explore", f"The nearest window with images ends {page.clock.long(newest)}", View(nearest))
