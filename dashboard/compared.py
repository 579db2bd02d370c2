"""The panel that holds one window against another: what changed, with pictures of both, and as a file."""

from dataclasses import replace
from datetime import datetime
from functools import partial, reduce
from typing import Literal

import streamlit as st

from dashboard import data, frame, looks, markup, report
from dashboard.changes import quantiles, what_changed
from dashboard.facts import FEW
from dashboard.frame import Page
from dashboard.links import Earlier, other_window
from dashboard.markup import Thumb
from dashboard.report import Comparison, Side
from dashboard.scene import Scene, baseline_of
from dashboard.windows import Window, coarse
from pipeline.shift.folding import POOLED
from pipeline.shift.rollup import RollUp, merge
from pipeline.storage.series import Totals

_AGAINST: dict[str, Earlier | Literal["another"]] = {
    "the window before": "before",
    "the same hours a day earlier": "day",
    "the same hours a week earlier": "week",
    "another window": "another",
}
_SHOWN = 14
_PICTURES = 4


def compared(scene: Scene) -> None:
    """What changed in the window, against the one that the reader or the link names."""
    other = _chosen(scene.page)
    now, before = _whole(scene, scene.page.window), _whole(scene, other)
    if before is None or now is None or min(before.n, now.n) < FEW:
        counts = [0 if one is None else one.n for one in (before, now)]
        st.html(markup.heading("What changed"))
        st.html(markup.note(f"n = {counts[0]} then and {counts[1]} now, too few to compare.{_elsewhere(scene, other)}"))
        return
    found = _comparison(scene, other, before, now)
    st.html(markup.heading("What changed", report.summary(found)))
    for remark in found.remarks:
        st.html(markup.note(remark))
    if found.kept:
        st.html(report.changes_table(found.kept[:_SHOWN], scene.name))
        if len(found.kept) > _SHOWN:
            st.html(markup.heading("", f"{len(found.kept) - _SHOWN} smaller ones are in the file"))
    else:
        st.html(markup.note("Nothing moved beyond chance by as much as one image in a hundred."))
    for name, side in (("Now", found.now), ("Then", found.then)):
        st.html(markup.heading(name, f"{_words(scene.page, side.window)}, {found.where}; unusual ones framed"))
        if side.pictures:
            st.html(markup.pictures(side.pictures, across=2 * _PICTURES))
        else:
            st.html(markup.note("No picture of this time is kept."))
    if found.quantiles:
        st.html(markup.heading("Scores", "in nats; all intervals hold at once"))
        st.html(report.quantiles_table(found.quantiles))
    _downloads(scene, found)


def _chosen(page: Page) -> Window:
    """The other window, from the reader or else the address."""
    against = page.view.against
    names = list(_AGAINST)
    now = "another window" if isinstance(against, Window) else next(n for n in names if _AGAINST[n] == against)
    st.session_state["against"] = now
    st.selectbox("What changed against", names, key="against", on_change=_choose, args=(page,))
    other = other_window(page.window, against)
    if isinstance(against, Window):
        ends = [at.astimezone(page.clock.zone).replace(tzinfo=None) for at in other]
        with st.container(key="other", horizontal=True):
            for name, at in zip(("from", "to"), ends, strict=True):
                st.session_state[f"other-{name}"] = at
                st.datetime_input(
                    f"{name}, {page.clock.name}", key=f"other-{name}", step=60, on_change=_take, args=(page,)
                )
    return other


def _choose(page: Page) -> None:
    chosen = _AGAINST[st.session_state["against"]]
    against = other_window(page.window, "before") if chosen == "another" else chosen
    frame.pin(replace(frame.pinned(), against=against))


def _take(page: Page) -> None:
    start, end = (st.session_state[f"other-{name}"] for name in ("from", "to"))
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        return
    found = Window(*(at.replace(tzinfo=page.clock.zone).astimezone(page.now.tzinfo) for at in (start, end)))
    if found.end <= found.start:
        frame.tell("The window to compare with ends before it begins; nothing was changed.")
    elif found.start >= page.now:
        frame.tell("The window to compare with begins in the future; nothing was changed.")
    else:
        frame.pin(replace(frame.pinned(), against=Window(found.start, min(found.end, page.now))))


def _comparison(scene: Scene, other: Window, before: RollUp, now: RollUp) -> Comparison:
    page, stands = scene.page, scene.stands
    accepted = baseline_of(page, stands)
    reference = data.reference(page.key, stands.deployment.reference_id)
    own = (page.key, stands.deployment.id)
    past, present = (
        data.totals(*own, *window, stands.deployment.reference_id, scene.without) for window in (other, page.window)
    )
    nothing = Totals(0, 0)
    segments = {name: (past.get(key, nothing), present.get(key, nothing)) for key, name in stands.listed.items()}

    def dispersion(segment: str | None) -> float:
        name = segment or scene.segment
        known = None if accepted is None else accepted.pooled if name is None else accepted.of(name)
        return 1.0 if accepted is None else (known or accepted.pooled).d

    changes = what_changed(before, now, {} if scene.segment else segments, reference.classes, dispersion)
    d = dispersion(None)
    where = scene.segment or next((one.name for one in changes if one.kept and one.of == "segment"), None)
    return Comparison(
        deployment=page.name,
        reference=reference.name,
        of=scene.name,
        without=page.view.without,
        where=where or scene.name,
        then=Side(other, before.n, before.fine_histogram, _pictures(scene, other, where)),
        now=Side(page.window, now.n, now.fine_histogram, _pictures(scene, page.window, where)),
        d=d,
        changes=changes,
        quantiles=quantiles(before, now, reference.fine_edges, d),
        fine_edges=reference.fine_edges,
        threshold=reference.threshold,
        remarks=_remarks(scene, other, has_baseline=accepted is not None),
    )


def _remarks(scene: Scene, other: Window, *, has_baseline: bool) -> list[str]:
    said = []
    if other.start < scene.page.window.end and scene.page.window.start < other.end:
        said.append("The windows overlap: images in both make them look more alike than they are.")
    if not has_baseline:
        said.append(
            "Nobody has accepted a baseline, so images are taken for independent: where they come in clumps, more is"
            " listed than should be."
        )
    return said


def _elsewhere(scene: Scene, other: Window) -> str:
    """Why there may be nothing: another reference scored then, and its scores are on another scale."""
    own = (scene.page.key, scene.stands.deployment.id, *other)
    every, mine = data.totals(*own), data.totals(*own, scene.stands.deployment.reference_id)
    others = sum(every[POOLED]) - sum(mine.get(POOLED, (0, 0))) if POOLED in every else 0
    return " Most images of then were scored under another reference, which cannot be compared." if others else ""


def _whole(scene: Scene, window: Window) -> RollUp | None:
    deployment = scene.stands.deployment
    level = coarse(window, scene.stands.oldest)
    found = data.sums(scene.page.key, deployment.id, deployment.reference_id, scene.key, *window, level, scene.without)
    return reduce(merge, (sums for _, sums in found)) if found else None


def _pictures(scene: Scene, window: Window, where: str | None) -> list[Thumb]:
    """What was unusual, and what was not."""
    keys = scene.shown if where is None else (scene.stands.segment_keys[where],)
    own = (scene.page.key, scene.stands.deployment.id, *window, keys)
    unusual = data.pictures(*own, True, "strangest", 10 * _PICTURES)
    usual = data.pictures(*own, False, "newest", _PICTURES)
    framed = [replace(looks.thumb(scene, one), odd=True) for one in looks.typical(unusual)]
    return [*framed, *(replace(looks.thumb(scene, one), odd=False) for one in usual)]


def _words(page: Page, window: Window) -> str:
    return page.clock.span(*window)


def _downloads(scene: Scene, found: Comparison) -> None:
    now = scene.page.now
    name = f"what-changed-{found.now.window.start:%Y%m%dT%H%MZ}"
    with st.container(key="save", horizontal=True):
        for label, suffix, mime, write in (
            ("Save as one page", "html", "text/html", report.as_html),
            ("Save as JSON", "json", "application/json", report.as_json),
        ):
            st.download_button(
                label,
                data=partial(write, found, now),
                file_name=f"{name}.{suffix}",
                mime=mime,
                on_click="ignore",
            )
