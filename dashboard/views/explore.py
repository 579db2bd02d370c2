"""Explore: one window in words, its line with what surrounds it, and what changed against another one."""

import json
from dataclasses import asdict, replace
from datetime import timedelta
from functools import reduce
from html import escape

import streamlit as st

from dashboard import data, frame, looks, markup, trends
from dashboard.board import board
from dashboard.changes import Change, what_changed
from dashboard.facts import FEW
from dashboard.frame import Page
from dashboard.links import View
from dashboard.scene import Scene, baseline_of, scene_of, trust_strip
from dashboard.times import ago
from dashboard.windows import MINUTE, Window
from pipeline.shift.folding import POOLED
from pipeline.shift.rollup import RollUp, merge

_AGAINST = {
    "the window before": None,
    "the same hours a day earlier": timedelta(days=1),
    "the same hours a week earlier": timedelta(days=7),
}
_SHOWN = 14


def show() -> None:
    """The page."""
    frame.show(draw)


def draw(page: Page) -> None:
    """The window is the address's, else the last hours of the range."""
    scene = _of_window(scene_of(page, board()))
    window = page.window
    trust_strip(page, scene.trusted)
    n, flags = _counted(scene)
    where = scene.segment or "all traffic"
    title = f"{page.clock.long(window.start)} to {page.clock.short(window.end, page.now)}, {where}"
    share = f", {flags / n:.1%} unusual".replace("%", " %") if n else ""
    st.html(markup.title(title, f"{ago(window.length)}, n {n:,}{share}"))
    if n == 0:
        _nothing(scene)
        return
    left, right = st.columns([8, 4])
    with left:
        shown = replace(scene, page=replace(page, window=_around(page)))
        trends.line(shown, began="this window" if page.view.window else "began")
        if n < FEW:
            st.html(markup.note(f"n = {n}, too few to judge."))
        _changes(scene)
    with right:
        looks.pictures(scene)
        looks.histogram(scene)
        frame.link("samples", "All samples of this window", View(window, scene.segment))


def _of_window(scene: Scene) -> Scene:
    """The window itself is what is looked at, and not an incident's time."""
    window = scene.page.window
    quiet = replace(scene.verdict, onset=window.start if scene.page.view.window else scene.verdict.onset)
    return replace(scene, since=window.start, until=window.end, verdict=quiet, segment=scene.page.view.segment)


def _around(page: Page) -> Window:
    """Half a window to either side; never past now."""
    half = page.window.length / 2
    if page.is_live:
        return page.window
    return Window(page.window.start - half, min(page.window.end + half, page.now))


def _counted(scene: Scene) -> tuple[int, int]:
    found = data.totals(scene.page.key, scene.stands.deployment.id, scene.since, scene.until)
    key = POOLED if scene.segment is None else scene.stands.segment_keys[scene.segment]
    n, flags = found.get(key, (0, 0))
    return n, flags


def _nothing(scene: Scene) -> None:
    page, newest = scene.page, scene.stands.newest_image
    st.html(markup.empty("No image was scored in this window.", ("Nothing is drawn rather than zero.",)))
    if newest is not None:
        nearest = Window(newest - page.window.length, newest + MINUTE)
        frame.link("explore", f"The nearest window with images ends {page.clock.long(newest)}", View(nearest))


def _changes(scene: Scene) -> None:
    page = scene.page
    chosen = st.selectbox("What changed against", list(_AGAINST), key="against")
    back = _AGAINST[chosen] or page.window.length
    other = Window(page.window.start - back, page.window.end - back)
    before, now = _whole(scene, other), _whole(scene, page.window)
    if before is None or now is None or min(before.n, now.n) < FEW:
        counts = [0 if one is None else one.n for one in (before, now)]
        st.html(markup.note(f"n = {counts[0]} then and {counts[1]} now, too few to compare."))
        return
    found = _compared(scene, other, before, now)
    kept = [one for one in found if one.kept]
    st.html(
        markup.heading(
            "What changed", f"{len(kept)} of {len(found)} things, beyond chance; n {before.n:,} then, {now.n:,} now"
        )
    )
    if kept:
        rows = [
            (escape(one.name), escape(one.kind), one.before, one.now, markup.bar(one.effect)) for one in kept[:_SHOWN]
        ]
        st.html(markup.table(("what", "of", "then", "now", "effect, 0 to 1"), rows, numbers=(2, 3)))
    else:
        st.html(markup.note("Nothing differs more than chance would make it."))
    st.download_button(
        "Save as JSON",
        data=lambda: _as_json(scene, other, found),
        file_name=f"what-changed-{page.window.start:%Y%m%dT%H%MZ}.json",
        mime="application/json",
        on_click="ignore",
    )


def _compared(scene: Scene, other: Window, before: RollUp, now: RollUp) -> list[Change]:
    page, stands = scene.page, scene.stands
    accepted = baseline_of(page, stands)
    reference = data.reference(page.key, stands.deployment.reference_id)
    past, present = (data.totals(page.key, stands.deployment.id, *window) for window in (other, page.window))
    segments = {
        name: (past[key], present[key]) for key, name in stands.segments.items() if key in past and key in present
    }
    d = 1.0 if accepted is None else accepted.pooled.d
    return what_changed(before, now, {} if scene.segment else segments, reference.classes, d)


def _whole(scene: Scene, window: Window) -> RollUp | None:
    key = POOLED if scene.segment is None else scene.stands.segment_keys[scene.segment]
    deployment = scene.stands.deployment
    level = data.coarse(*window)
    found = data.sums(scene.page.key, deployment.id, deployment.reference_id, key, *window, level)
    return reduce(merge, (sums for _, sums in found)) if found else None


def _as_json(scene: Scene, other: Window, found: list[Change]) -> str:
    windows = {
        name: [one.start.isoformat(), one.end.isoformat()]
        for name, one in (("then", other), ("now", scene.page.window))
    }
    return json.dumps(
        {
            "deployment": scene.page.name,
            "segment": scene.segment,
            **windows,
            "changes": [asdict(one) for one in found],
        },
        indent=1,
    )
