"""Samples: the strangest, the newest, random normal ones and those of the reference, side by side with their scores."""

import csv
import io
from html import escape

import numpy as np
import streamlit as st

from dashboard import data, frame, looks, markup
from dashboard.access import may_see_images
from dashboard.board import board
from dashboard.frame import Page
from dashboard.markup import Thumb
from dashboard.normal import at_least
from dashboard.scene import Scene, scene_of, trust_strip
from dashboard.strange import strange
from dashboard.times import rarity
from pipeline.storage.sample_pages import Picture

_SHOWN = 24
_KINDS = ("strangest", "newest unusual", "normal", "reference")


def show() -> None:
    """The page."""
    frame.show(draw)


def draw(page: Page) -> None:
    """A grid, and one of it closer."""
    scene = scene_of(page, board())
    trust_strip(page, scene.trusted)
    chosen = st.segmented_control("Show", _KINDS, default=_KINDS[0], key="kind", label_visibility="collapsed")
    kind = chosen or _KINDS[0]
    where = page.view.segment or "all segments"
    if kind == "reference":
        _reference(scene)
        return
    found = _found(scene, kind)
    st.html(markup.heading(f"{kind.capitalize()}, {where}", f"{len(found)} of what is kept; {page.clock.name}"))
    if not found:
        st.html(markup.empty("No such sample is kept in this window.", ("Choose a longer range, or another segment.",)))
        return
    with st.container(key="body"):
        left, closer = st.columns([8, 4])
    with closer:
        one = _closer(scene, found)
    with left:
        if st.session_state.get("strange") and may_see_images():
            strange(page, one.id)
            st.html(markup.heading("All that are shown"))
        thumbs = [looks.thumb(scene, one) for one in found]
        numbered = [
            Thumb(one.picture, f"{at}. {one.title}", f"{one.line}, {picture.segment}", False)
            for at, (one, picture) in enumerate(zip(thumbs, found, strict=True), 1)
        ]
        st.html(markup.pictures(numbered, across=6))


def _found(scene: Scene, kind: str) -> list[Picture]:
    page, stands = scene.page, scene.stands
    segment = page.view.segment
    keys = (stands.segment_keys[segment],) if segment else tuple(stands.segments)
    return data.pictures(
        page.key,
        stands.deployment.id,
        *page.window,
        keys,
        kind != "normal",
        "strangest" if kind == "strangest" else "newest",
        _SHOWN,
    )


def _closer(scene: Scene, found: list[Picture]) -> Picture:
    page = scene.page
    number = st.number_input("Look closer at", 1, len(found), 1, key="closer")
    one = found[int(number) - 1]
    reference = data.reference(page.key, scene.stands.deployment.reference_id)
    st.html(markup.pictures([looks.thumb(scene, one)], across=1))
    name = reference.classes[one.class_index] if one.class_index < len(reference.classes) else "?"
    shown = may_see_images()
    why = None if shown else "Pictures are hidden for your role."
    st.toggle("Where is it strange?", key="strange", disabled=not shown, help=why)
    rows = [
        ("how rare", f"{rarity(at_least(reference, one.score), reference.n)} of the reference's images"),
        ("score", f"{one.score:.2f} nats; unusual beyond {reference.threshold:.2f}".replace("-", "−")),
        ("support", "not known" if one.support is None else f"{one.support:.2f} by the reference's images"),
        ("predicted", f"{name}, softmax {one.msp:.0%}".replace("%", " %")),
        ("label", one.label or "none"),
        ("segment", one.segment),
        ("event time", page.clock.long(one.event_time)),
        ("id", one.name or "none"),
        ("original", f"{one.topic}, partition {one.partition}, offset {one.offset:,}"),
    ]
    st.html(markup.table(("", ""), [(escape(a), escape(b)) for a, b in rows]))
    st.download_button(
        "Save the list as CSV",
        data=lambda: _as_csv(found),
        file_name=f"samples-{page.window.start:%Y%m%dT%H%MZ}.csv",
        mime="text/csv",
        on_click="ignore",
    )
    return one


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
