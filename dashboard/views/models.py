"""Models and calibration: what counts as normal, what it cannot see, what another threshold would do."""

from html import escape

import streamlit as st

from dashboard import data, frame, markup
from dashboard.board import board
from dashboard.frame import Page
from dashboard.lineage import lineage
from dashboard.scene import Scene, scene_of, trust_strip
from dashboard.times import ago, percent
from dashboard.what_if import what_if
from pipeline.records import Reference


def show() -> None:
    """The page."""
    frame.show(draw)


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
        _baselines(scene)
        _references(page, reference)
        lineage(page, scene.stands.deployment.name)
    with right:
        _facts(reference)
        _blind_spots(reference)


def _facts(reference: Reference) -> None:
    rows = [
        ("score", f"{reference.score_name}, T = {reference.temperature:g}"),
        ("threshold", f"{reference.threshold:.3f} nats, the {reference.rank:,}th of {reference.n:,}"),
        ("target", f"{percent(reference.target_fpr)} of normal images"),
        ("true rate", f"{percent(reference.p0_low)} to {percent(reference.p0_high)}, but for chance"),
        ("representative", "yes" if reference.representative else "no: class mix and coverage wait for a baseline"),
        ("decoder, dtype", f"{reference.decoder}, {reference.dtype}"),
        ("classes", f"{len(reference.classes):,}"),
    ]
    st.html(markup.heading("This reference"))
    st.html(markup.table(("", ""), [(escape(a), escape(b)) for a, b in rows]))


def _blind_spots(reference: Reference) -> None:
    st.html(markup.heading("Blind spots", "how much of its own images is flagged when they are damaged"))
    if reference.card is None:
        st.html(markup.note("No card was made with this reference; oodwatch calibrate makes one."))
        return
    rows = [
        (escape(line.kind), markup.bar(line.flagged.get(reference.score_name, 0.0)), f"{line.agreement:.0%}")
        for line in reference.card.lines
    ]
    st.html(markup.table(("damage", "flagged", "same class"), rows, numbers=(2,)))


def _baselines(scene: Scene) -> None:
    page, deployment = scene.page, scene.stands.deployment
    known = data.baselines(page.key, deployment.id, deployment.reference_id)
    st.html(markup.heading("Accepted as normal", "the newest that is not revoked counts"))
    if not known:
        st.html(
            markup.note(
                "Nobody has accepted a baseline, so whatever is raised is provisional and never paged. Choose at least"
                " three whole days without an incident: oodwatch baseline accept"
            )
        )
        return
    rows = [
        (
            f"{one.version}{'' if one.version != scene.stands.baseline else ', counts'}",
            f"{one.window_start:%Y-%m-%d} to {one.window_end:%Y-%m-%d}, {one.days} days",
            escape(one.name),
            escape(one.reason),
            "" if one.revoked_at is None else f"revoked by {escape(one.revoked_by or '?')}",
        )
        for one in reversed(known)
    ]
    st.html(markup.table(("version", "window", "accepted by", "why", ""), rows))


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
