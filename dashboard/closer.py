"""One image of many, closer: what its score says, what people say, its original."""

from dataclasses import replace
from html import escape

import streamlit as st

from dashboard import data, looks, markup, reviewing
from dashboard.access import may_see_images
from dashboard.board import board
from dashboard.frame import Page
from dashboard.normal import at_least
from dashboard.originals import Expired, Original
from dashboard.scene import Scene
from dashboard.strange import strange
from dashboard.times import rarity
from pipeline.storage.reviews import ReviewLine
from pipeline.storage.sample_pages import Picture


def closer(scene: Scene, found: list[Picture], said: dict[int, ReviewLine]) -> Picture:
    """All that is known of one of these, and what can be said of it; returns which one that is."""
    page = scene.page
    at = reviewing.near(found)
    one = found[at]
    reference = data.reference(page.key, scene.stands.deployment.reference_id)
    st.html(markup.pictures([replace(looks.thumb(scene, one), mark=reviewing.mark(said.get(one.id)))], across=1))
    if one.is_ood:
        reviewing.judge(found, at, said)
    name = reference.classes[one.class_index] if one.class_index < len(reference.classes) else "?"
    _toggles()
    rare = rarity(at_least(reference, one.score), reference.n)
    rows = [
        ("how rare", f"{'more than 1 in 10' if rare == 'usual' else rare} of the reference's images"),
        ("score", f"{one.score:.2f} nats; unusual beyond {reference.threshold:.2f}".replace("-", "−")),
        ("support", "not known" if one.support is None else f"{one.support:.2f} by the reference's images"),
        ("predicted", f"{name}, softmax {one.msp:.0%}".replace("%", " %")),
        ("verdict", reviewing.history(page, one)),
        ("label", one.label or "none"),
        ("segment", one.segment),
        ("event time", page.clock.long(one.event_time)),
        ("id", one.name or "none"),
        ("original", f"{one.topic}, partition {one.partition}, offset {one.offset:,}"),
    ]
    st.html(markup.table(("", ""), [(escape(a), escape(b)) for a, b in rows]))
    return one


def beside(page: Page, one: Picture) -> bool:
    """What takes more room than a column; whether there is something."""
    has_original = bool(st.session_state.get("original")) and _has_originals()
    if has_original:
        _original(page, one)
    if is_strange := bool(st.session_state.get("strange")) and may_see_images():
        strange(page, one.id)
    return has_original or is_strange


def _toggles() -> None:
    with st.container(key="toggles", horizontal=True):
        if _has_originals():
            st.toggle("Show original", key="original")
        shown = may_see_images()
        why = None if shown else "Pictures are hidden for your role."
        st.toggle("Where is it strange?", key="strange", disabled=not shown, help=why)


def _has_originals() -> bool:
    return board().originals is not None and may_see_images()


def _original(page: Page, one: Picture) -> None:
    found = data.original(page.key, one.id)
    place = f"{one.topic}, partition {one.partition}, offset {one.offset:,}"
    if isinstance(found, Original):
        told = f"{found.width:,} × {found.height:,} pixels, {found.format}, {found.bytes:,} bytes; {place}"
        st.html(markup.heading("Original", told))
        with st.container(key="original-picture"):
            st.image(found.png, alt=f"Original of {one.name or place}")
        return
    st.html(markup.heading("Original", place))
    if isinstance(found, Expired):
        st.html(
            markup.note(
                f"Expired: the log has deleted it. Partition {one.partition} begins at offset {found.earliest:,} now."
            )
        )
    else:
        st.html(markup.note(f"It cannot be shown. {found}"))
