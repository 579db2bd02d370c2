"""Models and calibration: what counts as normal, what it cannot see, what another threshold would do."""

from html import escape

import numpy as np
import streamlit as st

from dashboard import blind_spots, charts, data, frame, markup, normality
from dashboard.board import board
from dashboard.frame import Page
from dashboard.lineage import lineage
from dashboard.scene import Scene, scene_of, trust_strip
from dashboard.times import ago, percent
from dashboard.windows import cut, to_ms
from pipeline.records import Reference
from pipeline.shift.folding import POOLED

_RATES = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15)


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
        _what_if(scene, reference)
        normality.accepted(scene)
        _references(page, reference)
        lineage(page, scene.stands.deployment.name)
    with right:
        _facts(reference)
        blind_spots.card(scene, reference)


def _what_if(scene: Scene, reference: Reference) -> None:
    page = scene.page
    st.html(markup.heading("What if the threshold were another?", "of normal images, so many would be flagged"))
    nearest = min(_RATES, key=lambda rate: abs(rate - reference.target_fpr))
    rate = st.select_slider("Target rate", _RATES, nearest, format_func=percent, label_visibility="collapsed")
    at = min(reference.n - 1, max(0, int(np.ceil((reference.n + 1) * (1 - rate))) - 1))
    threshold = float(reference.scores[at])
    how = cut(page.window, scene.stands.oldest, band=False)
    deployment = scene.stands.deployment
    found = data.sums(page.key, deployment.id, deployment.reference_id, POOLED, *page.window, how.level)
    above = np.searchsorted(reference.fine_edges, threshold, side="left") + 1
    counted: dict[int, list[int]] = {}
    for start, sums in found:
        slot = counted.setdefault(to_ms(start) // (how.width * 60_000), [0, 0])
        slot[0] += sums.n
        slot[1] += int(sums.fine_histogram[above:].sum())
    n, k = (sum(slot[at] for slot in counted.values()) for at in (0, 1))
    if not n:
        st.html(markup.note("No image was scored in this window."))
        return
    points = [
        charts.Point(
            start=slot * how.width * 60_000,
            end=(slot + 1) * how.width * 60_000,
            share=flags / images,
            low=None,
            high=None,
            of_all=None,
            calm_low=0.0,
            calm_high=rate,
            n=images,
            hollow=False,
            when="",
        )
        for slot, (images, flags) in sorted(counted.items())
        if images
    ]
    spec = charts.line(
        points,
        page.window,
        page.palette,
        labels=charts.Labels("all traffic", None, f"target {percent(rate)}"),
        levels=board().levels,
        onset=None,
        until=None,
        marks=(),
        utc=page.clock.is_utc,
        height=220,
    )
    frame.chart(spec, "what-if")
    st.html(
        markup.heading(
            f"{percent(k / n)} of {n:,} images", f"beyond {threshold:.2f} nats; now {reference.threshold:.2f}"
        )
    )


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
