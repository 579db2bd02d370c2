"""Panels over time: the line, the strip of segments, and both for a phone."""

from collections.abc import Sequence
from datetime import timedelta
from statistics import median

import numpy as np
import streamlit as st

from dashboard import charts, data, frame, markup
from dashboard.board import board
from dashboard.facts import FEW, Excess
from dashboard.normal import calm
from dashboard.scene import Scene, baseline_of
from dashboard.times import percent
from dashboard.windows import MINUTE, MOST_CELLS, Cut, Window, aligned, cut, live, to_ms
from pipeline.shift.folding import POOLED
from pipeline.storage.series import Bucket

_ROWS = 8


def line(scene: Scene, *, phone: bool = False, began: str = "began") -> None:
    """The share of unusual images in the window, of the segment in view beside all traffic."""
    page = scene.page
    window = live(timedelta(hours=6), page.now) if phone and page.is_live else page.window
    key, left_out = scene.key, scene.without
    counted = data.totals(page.key, scene.stands.deployment.id, *window, without=left_out).get(key)
    rate = 0.0 if counted is None else counted.n / (window.length / MINUTE)
    how = cut(window, scene.stands.oldest, rate=rate)
    found = data.buckets(page.key, scene.stands, window, how, tuple({key, POOLED}), left_out)
    points = _points(scene, [one for one in found if one.segment_id == key], found, window, how)
    name = scene.name
    every = scene.whole if scene.segment else None
    normal = next((one.normal for one in scene.shares if one.segment == scene.segment), None)
    usual = "normal" if normal is None else f"normal {percent(normal)}"
    if not found:
        st.html(markup.heading(f"Unusual images, {name}"))
        st.html(markup.note("No image was scored in this window."))
        return
    banded = any(one.low is not None for one in points)
    band = f", band = lowest to highest {ticks(how.level)}" if banded else ""
    legend = f"; grey line = {scene.whole}" if phone and scene.segment else ""
    st.html(
        markup.heading(
            f"Unusual images, {name}",
            f"one step = {ticks(how.width)}{band}; shaded grey = normal{legend}; {page.clock.name}",
        )
    )
    spec = charts.line(
        points,
        window,
        page.palette,
        labels=charts.Labels(name, every, usual),
        levels=board().levels,
        onset=_onset_ms(scene, window),
        until=None
        if scene.verdict.incident is None or scene.verdict.incident.resolved_at is None
        else to_ms(scene.until),
        marks=[(to_ms(mark.at), mark.text) for mark in data.marks(page.key, scene.stands.deployment.id, *window)],
        utc=page.clock.is_utc,
        began=began,
        height=160 if phone else 300,
        margins=(38, 0) if phone else charts.MARGINS,
    )
    frame.chart(spec, "line-phone" if phone else "line")


def few(scene: Scene) -> None:
    """Says so, where the window has some images, and no share of them means anything."""
    page = scene.page
    counted = data.totals(page.key, scene.stands.deployment.id, *page.window, without=scene.without).get(scene.key)
    if counted is not None and counted.n < FEW:
        st.html(markup.note(f"n = {counted.n} in this window, too few to judge."))


def strip(scene: Scene) -> None:
    """The worst segments over the same time, beyond their own normal."""
    page = scene.page
    shown = scene.shares[:_ROWS]
    how = cut(page.window, scene.stands.oldest, most=MOST_CELLS, band=False)
    keys = scene.stands.segment_keys
    found = data.buckets(page.key, scene.stands, page.window, how, tuple(keys[one.segment] for one in shown))
    names, normal = scene.stands.segments, {one.segment: one.normal for one in scene.shares}
    cells = [
        charts.Cell(
            row=names[one.segment_id],
            start=to_ms(max(one.start, page.window.start)),
            end=to_ms(min(one.start + how.step, page.window.end)),
            excess=max(0.0, one.share - normal[names[one.segment_id]] - _chance(one.n, normal[names[one.segment_id]])),
            share=one.share,
            n=one.n,
            when=page.clock.short(one.start, page.now),
        )
        for one in found
    ]
    rows = [
        charts.Row(
            one.segment,
            "no image" if one.share is None else percent(one.share) if one.n >= FEW else f"n = {one.n}",
            percent(one.normal),
            alarming(one),
        )
        for one in shown
    ]
    more = len(scene.shares) - len(shown)
    rest = f"; {more} more are normal or less so" if more > 0 else ""
    since = f"now = since {page.clock.short(scene.since, page.now)}"
    st.html(markup.heading("Segments, beyond their own normal", f"{since}{rest}"))
    spec = charts.strip(
        cells, rows, page.window, page.palette, onset=_onset_ms(scene, page.window), utc=page.clock.is_utc
    )
    frame.chart(spec, "strip")


def bars(scene: Scene) -> None:
    """The worst three segments, now and normally."""
    rows = [
        (one.segment, one.share, one.normal, f"{percent(one.share)}, normally {percent(one.normal)}", alarming(one))
        for one in scene.shares[:3]
        if one.share is not None
    ]
    if rows:
        st.html(markup.heading("Segments", "the mark is what is normal"))
        st.html(markup.bars(rows))


def _points(
    scene: Scene, own: Sequence[Bucket], every: Sequence[Bucket], window: Window, how: Cut
) -> list[charts.Point]:
    """A bucket for each step of the window: one without images is a gap, and not zero."""
    page, stands = scene.page, scene.stands
    reference = data.reference(page.key, stands.deployment.reference_id)
    accepted = baseline_of(page, stands)
    typical = median([one.n for one in own]) if own else 1.0
    mine = {one.start: one for one in own}
    pooled = {one.start: one for one in every if one.segment_id == POOLED}
    complete = stands.evaluated_until or window.end
    points = []
    at = aligned(window, how.width).start
    while at < window.end:
        bucket, other = mine.get(at), pooled.get(at)
        band = calm(reference, accepted, scene.segment, at, typical)
        few = bucket is not None and (bucket.n < FEW or at + how.step > complete)
        # The lowest and highest of ticks with a handful of images would be noise.
        banded = bucket is not None and not few and how.level < how.width and bucket.n * how.level >= FEW * how.width
        points.append(
            charts.Point(
                start=to_ms(at),
                end=to_ms(at + how.step),
                share=None if bucket is None else bucket.share,
                low=bucket.low if bucket is not None and banded else None,
                high=bucket.high if bucket is not None and banded else None,
                of_all=None if other is None else other.share,
                calm_low=band.low,
                calm_high=band.high,
                n=0 if bucket is None else bucket.n,
                hollow=few,
                when=page.clock.short(at, page.now),
            )
        )
        at += how.step
    return points


def alarming(one: Excess) -> bool:
    """Enough images, and as many flagged as a warning takes."""
    return one.n >= FEW and (one.share or 0.0) >= board().levels[0]


def ticks(minutes: int) -> str:
    """A length of ticks in words."""
    if minutes < 60:
        return "minute" if minutes == 1 else f"{minutes} min"
    return "hour" if minutes == 60 else f"{minutes // 60} h" if minutes < 1440 else f"{minutes // 1440} d"


def _onset_ms(scene: Scene, window: Window) -> int | None:
    onset = scene.verdict.onset
    return None if onset is None or not window.start < onset < window.end else to_ms(onset)


def _chance(n: int, p: float) -> float:
    """What chance alone may add to a cell of n images."""
    return 2.0 * float(np.sqrt(p * (1 - p) / max(n, 1)))
