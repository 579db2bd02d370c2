"""Samples: the strangest, the newest, random normal ones and those of the reference, side by side with their scores."""

import csv
import io
from dataclasses import replace

import numpy as np
import streamlit as st

from dashboard import data, frame, markup
from dashboard.board import board
from dashboard.closer import beside, closer
from dashboard.frame import Page
from dashboard.grid import grid
from dashboard.markup import Thumb
from dashboard.normal import at_least
from dashboard.representing import represent
from dashboard.scene import Scene, scene_of, trust_strip
from dashboard.times import rarity
from dashboard.windows import Window
from pipeline.storage.sample_pages import Picture

_SHOWN = 24
_KINDS = ("strangest", "newest unusual", "normal", "the change", "reference")


def show() -> None:
    """The page."""
    frame.show(draw)


def draw(page: Page) -> None:
    """A grid, and one of it closer."""
    scene = scene_of(page, board())
    trust_strip(page, scene.trusted)
    chosen = st.segmented_control("Show", _KINDS, default=_KINDS[0], key="kind", label_visibility="collapsed")
    kind = chosen or _KINDS[0]
    where = page.view.segment or ("all segments" if not scene.without else scene.whole)
    if kind == "reference":
        _reference(scene)
        return
    if kind == "the change":
        represent(scene, _window(scene))
        return
    found = _found(scene, kind)
    since = "" if page.incident is None else f" since {page.clock.short(scene.since, page.now)}"
    st.html(markup.heading(f"{kind.capitalize()}{since}, {where}", f"{len(found)} of what is kept; {page.clock.name}"))
    if not found:
        _none(scene)
        return
    with st.container(key="body"):
        left, right = st.columns([8, 4])
    said = data.reviews(page.key, tuple(one.id for one in found))
    with right:
        one = closer(scene, found, said)
        _download(page, found)
    with left:
        if beside(page, one):
            st.html(markup.heading("All that are shown"))
        grid(scene, found, one, said)


def _none(scene: Scene) -> None:
    page, key = scene.page, replace(scene, segment=scene.page.view.segment).key
    counted = data.totals(page.key, scene.stands.deployment.id, *page.window, without=scene.without).get(key)
    if counted is None:
        st.html(markup.empty("No image was scored in this window.", ("Choose a longer range, or another segment.",)))
        return
    images = f"{counted.n:,} image{' was' if counted.n == 1 else 's were'} scored"
    st.html(
        markup.empty(
            "No such sample is kept in this window.",
            (f"{images} in it: choose a longer range, another segment or another kind of sample.",),
        )
    )


def _found(scene: Scene, kind: str) -> list[Picture]:
    page, stands = scene.page, scene.stands
    keys = replace(scene, segment=page.view.segment).shown
    return data.pictures(
        page.key,
        stands.deployment.id,
        *_window(scene),
        keys,
        kind != "normal",
        "strangest" if kind == "strangest" else "newest",
        _SHOWN,
    )


def _window(scene: Scene) -> Window:
    """Of an incident what came since its onset."""
    return scene.page.window if scene.page.incident is None else Window(scene.since, scene.until)


def _reference(scene: Scene) -> None:
    stands = scene.stands
    reference = data.reference(scene.page.key, stands.deployment.reference_id)
    kept = data.images_of_reference(scene.page.key, stands.deployment.reference_id)
    st.html(markup.heading("The reference's own images", f"{len(kept):,} kept, from the most usual to the strangest"))
    if not kept:
        st.html(markup.empty("No image of the reference is kept.", ("It was made without pictures.",)))
        return
    ordered = sorted(kept, key=lambda one: one.score)
    shown = [ordered[at] for at in np.linspace(0, len(ordered) - 1, min(_SHOWN, len(ordered))).astype(int)]
    thumbs = [
        Thumb(one.thumbnail, rarity(at_least(reference, one.score), reference.n), one.label or one.file, False)
        for one in shown
    ]
    st.html(markup.pictures(thumbs, across=8))


def _download(page: Page, found: list[Picture]) -> None:
    st.download_button(
        "Save the list as CSV",
        data=lambda: _as_csv(found),
        file_name=f"samples-{page.window.start:%Y%m%dT%H%MZ}.csv",
        mime="text/csv",
        on_click="ignore",
    )


def _as_csv(found: list[Picture]) -> str:
    """Times in UTC, ISO 8601; no picture."""
    out = io.StringIO()
    names = [name for name in Picture._fields if name != "thumbnail"]
    writer = csv.writer(out)
    writer.writerow(names)
    for one in found:
        values = {name: getattr(one, name) for name in names} | {"event_time": one.event_time.isoformat()}
        writer.writerow(["" if value is None else value for value in values.values()])
    return out.getvalue()
