"""Which pages there are."""

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from dashboard.views import coverage, explore, incidents, models, overview, pipeline, samples


class _Entry(NamedTuple):
    show: Callable[[], None]
    title: str
    url: str
    icon: str


_ENTRIES = (
    _Entry(overview.show, "Overview", "", ":material/visibility:"),
    _Entry(incidents.show, "Incidents", "incidents", ":material/notifications:"),
    _Entry(explore.show, "Explore", "explore", ":material/query_stats:"),
    _Entry(samples.show, "Samples", "samples", ":material/photo_library:"),
    _Entry(coverage.show, "Coverage", "coverage", ":material/join_inner:"),
    _Entry(models.show, "Models", "models", ":material/tune:"),
    _Entry(pipeline.show, "Pipeline", "pipeline", ":material/lan:"),
)


def pages() -> list[StreamlitPage]:
    """All pages, the first one at the root; `frame.link` finds them by their address."""
    made = {
        one.url: st.Page(one.show, title=one.title, icon=one.icon, url_path=one.url, default=not one.url)
        for one in _ENTRIES
    }
    st.session_state["pages"] = made
    return list(made.values())
