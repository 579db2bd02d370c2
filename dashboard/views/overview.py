"""Overview: is anything wrong, how much, since when, where, what kind; can I trust it, who has it, does it matter."""

import streamlit as st

from dashboard import frame, looks, markup, trends
from dashboard.board import board
from dashboard.frame import Page
from dashboard.headline import verdict
from dashboard.scene import scene_of, trust_strip


def show() -> None:
    """The page."""
    frame.show(draw)


def draw(page: Page) -> None:
    """Top to bottom; on a phone pictures come before lines."""
    scene = scene_of(page, board())
    trust_strip(page, scene.trusted)
    if scene.stands.newest_image is None:
        st.html(markup.empty("No images scored yet.", ("A worker is set up; it waits for the first image.",)))
        return
    verdict(scene)
    with st.container(key="body"):
        left, right = st.columns([8, 4])
        with left:
            trends.few(scene)
            with st.container(key="wide"):
                trends.line(scene)
                trends.strip(scene)
            with st.container(key="phone"):
                trends.bars(scene)
                trends.line(scene, phone=True)
        with right:
            looks.pictures(scene)
            with st.container(key="histogram"):
                looks.histogram(scene)
    with st.container(key="foot"):
        looks.signals(scene)
