"""The panel of another threshold: what would have been flagged, read off the stored fine histograms."""

from dataclasses import replace

import numpy as np
import streamlit as st

from dashboard import charts, data, frame, markup
from dashboard.board import board
from dashboard.data import Fine
from dashboard.facts import FEW
from dashboard.normal import beyond, rank_of, threshold_at
from dashboard.scene import Scene
from dashboard.times import percent
from dashboard.trends import ticks
from dashboard.windows import MOST_CELLS, cut, from_ms
from pipeline.records import Float64s, Reference

_RATES = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03),
    *(0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2),
)
_BY = ("target rate", "threshold")
_STEPS = 200  # of the slider


def what_if(scene: Scene, reference: Reference) -> None:
    """A slider, and the window as another threshold would have shown it beside how it was scored."""
    page = scene.page
    scene = replace(scene, segment=page.view.segment)
    how = cut(page.window, scene.stands.oldest, most=MOST_CELLS, band=False)  # a day at 90 days: few to decode
    own = page.key, scene.stands.deployment.id, scene.stands.deployment.reference_id
    found = data.fine_over_time(*own, scene.key, page.window, how, scene.without)
    st.html(
        markup.heading(
            f"What if the threshold were another? {scene.name}",
            f"one step = {ticks(how.width)}; grey line = as scored; {page.clock.name}",
        )
    )
    n = int(found.n.sum())
    if n < FEW:
        st.html(
            markup.note(
                "No image was scored in this window under this reference."
                if not n
                else f"n = {n}, too few to judge another threshold."
            )
        )
        return
    rate, threshold = _chosen(reference, found)
    flagged = beyond(found.fine, reference.fine_edges, threshold)
    for place, margins in (("wide", charts.MARGINS), ("phone", (38, 0))):
        with st.container(key=place):
            frame.chart(_spec(scene, found, flagged, how.width, (rate, threshold), margins), f"what-if-{place}")
    st.html(markup.heading(*_said(found, flagged, reference, (rate, threshold))))


def _chosen(reference: Reference, found: Fine) -> tuple[float, float]:
    """(share of normal images beyond, threshold), of which the reader drags one."""
    by = st.segmented_control("By", _BY, default=_BY[0], key="what-if-by", label_visibility="collapsed")
    if by != _BY[1]:
        rates = [rate for rate in _RATES if rate * (reference.n + 1) >= 1]  # fewer images know no rarer ones
        nearest = min(rates, key=lambda rate: abs(rate - reference.target_fpr))
        rate = st.select_slider(
            "Target rate: of normal images, so many are flagged",
            rates,
            nearest,
            format_func=percent,
            key="what-if-rate",
        )
        return rate, threshold_at(reference, rate)
    filled = np.flatnonzero(found.fine.sum(axis=0)[:-1])
    seen = reference.fine_edges[filled[-1]] if len(filled) else reference.scores[-1]
    low = float(np.median(reference.scores))
    high = max(float(reference.scores[-1]), float(seen))
    threshold = st.slider(
        "Threshold in nats: what lies beyond is flagged",
        low,
        high,
        min(max(reference.threshold, low), high),
        (high - low) / _STEPS,
        format="%.2f",
    )
    return rank_of(reference, threshold), threshold


def _spec(
    scene: Scene, found: Fine, flagged: Float64s, width: int, chosen: tuple[float, float], margins: tuple[int, int]
) -> charts.Spec:
    page, (rate, threshold) = scene.page, chosen
    step = width * 60_000
    points = [
        charts.Point(
            start=int(start),
            end=int(start) + step,
            share=float(k / n),
            low=None,
            high=None,
            of_all=float(was / n),
            calm_low=0.0,
            calm_high=rate,
            n=int(n),
            hollow=bool(n < FEW),
            when=page.clock.short(from_ms(int(start)), page.now),
        )
        for start, n, was, k in zip(found.start, found.n, found.flags, flagged, strict=True)
    ]
    return charts.line(
        _with_gaps(points, step),
        page.window,
        page.palette,
        labels=charts.Labels(f"at {threshold:.2f}".replace("-", "−"), "as scored", f"target {percent(rate)}"),
        levels=board().levels,
        onset=None,
        until=None,
        marks=(),
        utc=page.clock.is_utc,
        height=220 if margins[1] else 160,
        margins=margins,
    )


def _with_gaps(points: list[charts.Point], step: int) -> list[charts.Point]:
    """A step without images breaks the line."""
    found: list[charts.Point] = []
    for one in points:
        if found and one.start > found[-1].end:
            found.append(
                replace(one, start=found[-1].end, end=found[-1].end + step, share=None, of_all=None, n=0, hollow=False)
            )
        found.append(one)
    return found


def _said(found: Fine, flagged: Float64s, reference: Reference, chosen: tuple[float, float]) -> tuple[str, str]:
    n, (rate, threshold) = found.n.sum(), chosen
    judged = found.n >= FEW
    over = [
        f"{int((flagged[judged] >= level * found.n[judged]).sum())} above {name}"
        f" (as scored {int((found.flags[judged] >= level * found.n[judged]).sum())})"
        for name, level in zip(("warning", "critical"), board().levels, strict=True)
    ]
    return (
        f"{percent(float(flagged.sum() / n))} of {int(n):,} images, {percent(float(found.flags.sum() / n))} as scored",
        f"beyond {threshold:.2f} nats, where {percent(rate)} of the reference lies; as scored beyond"
        f" {reference.threshold:.2f}; of {int(judged.sum())} steps {', '.join(over)}".replace("-", "−"),
    )
