"""Models and calibration: what counts as normal, what it cannot see, what another threshold would do."""

from html import escape

import streamlit as st

from dashboard import blind_spots, data, frame, markup, normality
from dashboard.board import board
from dashboard.frame import Page
from dashboard.lineage import lineage
from dashboard.scene import scene_of, trust_strip
from dashboard.times import ago, percent
from dashboard.what_if import what_if
from pipeline.records import Reference


def show() -> None:
    """The page."""
    frame.show(draw, every=blind_spots.pace())
    frame.show(normality.wizard, every=normality.pace())


def draw(page: Page) -> None:
    """The reference that scores now, then what else there is."""
    scene = scene_of(page, board())
    trust_strip(page, scene.trusted)
    reference = data.reference(page.key, scene.stands.deployment.reference_id)
    age = ago(page.now - reference.created_at)
    st.html(markup.title(f"{reference.name}, {age} old", f"model {reference.model_id}; {reference.n:,} images"))
    left, right = st.columns([8, 4])
    with left:
        what_if(scene, reference)
        normality.accepted(scene)
        _references(page, reference)
        lineage(page, scene.stands.deployment.name)
    with right:
        _facts(reference)
        blind_spots.card(scene, reference)


def _facts(reference: Reference) -> None:
    rows = [
        ("score", f"{reference.score_name}, T = {reference.temperature:g}"),
        ("threshold", f"{reference.threshold:.3f} nats, the {reference.rank:,}th of {reference.n:,}"),
        ("target", f"{percent(reference.target_fpr)} of normal images"),
        (
            "taken for normal",
            f"{percent(reference.p0_low)} to {percent(reference.p0_high)} flagged: 1 and 95 % bounds of the true rate"
            " (p0⁻, p0⁺)",
        ),
        ("representative", "yes" if reference.representative else "no: class mix and coverage wait for a baseline"),
        ("decoder, dtype", f"{reference.decoder}, {reference.dtype}"),
        ("classes", f"{len(reference.classes):,}"),
    ]
    st.html(markup.heading("This reference"))
    st.html(markup.table(("", ""), [(escape(a), escape(b)) for a, b in rows]))


def _references(page: Page, current: Reference) -> None:
    st.html(markup.heading("References", "newest first"))
    rows = [
        (
            escape(one.reference) + (", scores now" if one.reference == current.name else ""),
            f"{one.created_at:%Y-%m-%d %H:%M}",
            f"{one.n:,}",
            f"{one.threshold:.2f}",
            escape(one.score),
        )
        for one in reversed(data.references(page.key))
    ]
    st.html(markup.table(("reference", "made", "images", "threshold", "score"), rows, numbers=(2, 3)))
