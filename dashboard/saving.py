"""The panel that saves what a window shows: its series by segment, and its unusual images as a list."""

from collections.abc import Callable
from functools import partial
from html import escape

import streamlit as st

from dashboard import data, markup
from dashboard.scene import Scene
from dashboard.trends import ticks
from dashboard.windows import Cut, cut
from pipeline.reports.tables import (
    FLAGGED,
    SERIES,
    Column,
    Table,
    as_csv,
    as_parquet,
    flagged_table,
    iso,
    series_table,
)
from pipeline.shift.folding import POOLED

#: Of unusual images the newest so many: a page is no place for millions of rows.
MOST = 10_000


def saving(scene: Scene, flagged: int) -> None:
    """A sheet with four files; `flagged` is how many unusual images the window has."""
    how = cut(scene.page.window, scene.stands.oldest)
    with st.popover("Save this window", width="stretch"):
        st.html(markup.heading("Series by segment", f"one row = {ticks(how.width)} of a segment; times in UTC"))
        _files("series", scene, partial(_series, scene, how))
        _columns(SERIES)
        cut_off = flagged > MOST
        some = f"the newest {MOST:,} of {flagged:,}" if cut_off else f"{flagged:,}"
        st.html(markup.heading("Unusual images", f"{some}, newest first; times in UTC"))
        if cut_off:
            more = f"The list is cut at {MOST:,}. All of them: oodwatch export scores --from ... --to ..."
            st.html(markup.note(more, doubt=True))
        _files(f"unusual-newest-{MOST}" if cut_off else "unusual", scene, partial(_flagged, scene))
        _columns(FLAGGED)


def _files(name: str, scene: Scene, made: Callable[[], Table]) -> None:
    start, end = (f"{at:%Y%m%dT%H%MZ}" for at in scene.page.window)
    with st.container(horizontal=True):
        for label, suffix, mime, write in (
            ("CSV", "csv", "text/csv", as_csv),
            ("Parquet", "parquet", "application/vnd.apache.parquet", as_parquet),
        ):
            st.download_button(
                label,
                data=partial(_written, made, write),
                file_name=f"{name}-{start}-{end}.{suffix}",
                mime=mime,
                key=f"save-{name}-{suffix}",
                on_click="ignore",
            )


def _written(made: Callable[[], Table], write: Callable[[Table], bytes]) -> bytes:
    return write(made())


def _series(scene: Scene, how: Cut) -> Table:
    page = scene.page
    keys = scene.shown if scene.segment else (POOLED, *scene.shown)
    found = data.buckets(page.key, scene.stands, page.window, how, keys, scene.without)
    return series_table(found, scene.stands.segments, how.step, _about(scene))


def _flagged(scene: Scene) -> Table:
    found = data.flagged(scene.page.name, scene.page.window, scene.shown, MOST)
    return flagged_table(found, {**_about(scene), "at most": str(MOST)})


def _about(scene: Scene) -> dict[str, str]:
    page = scene.page
    reference = data.reference(page.key, scene.stands.deployment.reference_id)
    return {
        "made by": "oodwatch",
        "deployment": page.name,
        "model": reference.model_id,
        "reference": reference.name,
        "from": iso(page.window.start),
        "to": iso(page.window.end),
        "segment": scene.segment or "",
        "without": ", ".join(page.view.without),
    }


def _columns(columns: tuple[Column, ...]) -> None:
    rows = [(escape(one.name), escape(one.says)) for one in columns]
    with st.expander("What the columns say"):
        st.html(markup.table(("", ""), rows))
