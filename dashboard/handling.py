"""Buttons by which people decide; there are none where who serves the pages gives no actions."""

from collections.abc import Callable
from datetime import timedelta

import streamlit as st

from dashboard.actions import Actions
from dashboard.board import board
from pipeline.errors import OodwatchError
from pipeline.storage.incident_pages import IncidentLine

_LASTS = {
    "1 hour": timedelta(hours=1),
    "4 hours": timedelta(hours=4),
    "1 day": timedelta(days=1),
    "1 week": timedelta(days=7),
}


def user() -> str | None:
    """Who asks, as the proxy in front says; None: nobody stands in front."""
    header = board().user_header
    return None if header is None else st.context.headers.get(header)


def acknowledge_button(incident: IncidentLine, *, wide: bool = True) -> None:
    """Somebody takes care of it, in one click."""
    actions = board().actions
    if actions is not None and st.button(
        "Acknowledge", key=f"acknowledge-{incident.id}", type="primary", width="stretch" if wide else "content"
    ):
        _do(lambda: actions.acknowledge(incident.id, who=_name(), why=""))


def act(incident: IncidentLine) -> None:
    """All that can be done about an incident that is open."""
    actions = board().actions
    if actions is None or incident.resolved_at is not None:
        return
    with st.container(key="handle", horizontal=True):
        if incident.handling != "acknowledged":
            acknowledge_button(incident, wide=False)
        if user() is None:
            st.text_input("Your name", key="name", placeholder="your name", label_visibility="collapsed", width=160)
        for title in ("Silence", "Expect", "Note"):
            with st.popover(title):
                _form(title, incident, actions)


def _form(title: str, incident: IncidentLine, actions: Actions) -> None:
    with st.form(f"{title}-{incident.id}", clear_on_submit=True, border=False):
        lasts = None if title == "Note" else st.selectbox("For", list(_LASTS), key=f"{title}-for")
        why = st.text_input("Why" if lasts else "What others should know", key=f"{title}-why")
        if not st.form_submit_button(title):
            return
    if lasts is None:
        _do(lambda: actions.note(incident.id, who=_name(), why=why))
    else:
        until = board().clock() + _LASTS[lasts]
        decide = actions.silence if title == "Silence" else actions.expect
        _do(lambda: decide(incident.id, until=until, who=_name(), why=why))


def _name() -> str:
    return user() or st.session_state.get("name") or "somebody at the dashboard"


def _do(decide: Callable[[], None]) -> None:
    try:
        decide()
    except OodwatchError as refused:  # somebody was quicker, or may not
        st.toast(str(refused))
        return
    st.cache_data.clear()
    st.rerun()
