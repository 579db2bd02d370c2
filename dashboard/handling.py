"""Buttons by which people decide; there are none where who serves the pages gives no actions."""

import streamlit as st

from dashboard.board import board
from pipeline.errors import OodwatchError
from pipeline.storage.incident_pages import IncidentLine


def user() -> str | None:
    """Who asks, as the proxy in front says; None: nobody stands in front."""
    header = board().user_header
    return None if header is None else st.context.headers.get(header)


def acknowledge_button(incident: IncidentLine) -> None:
    """Somebody takes care of it."""
    actions = board().actions
    if actions is None:
        return
    if st.button("Acknowledge", key=f"acknowledge-{incident.id}", type="primary", width="stretch"):
        try:
            actions.acknowledge(incident.id, who=user() or "somebody at the dashboard", why="")
        except OodwatchError as refused:
            st.toast(str(refused))
        else:
            st.cache_data.clear()
            st.rerun()
