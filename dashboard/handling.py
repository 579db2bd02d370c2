"""Buttons by which people decide; there are none where who serves the pages gives no actions.

All of it happens in callbacks: they run before the page is drawn anew, so a button that somebody else's decision has
taken away in the meantime still does what was asked of it, and answers.
"""

from collections.abc import Callable
from datetime import timedelta

import streamlit as st

from dashboard import data, frame, markup
from dashboard.access import user, who, why_not_decide
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
_WHY = "Say why, for those who come later."


def acknowledge_button(incident: IncidentLine, *, wide: bool = True) -> None:
    """Somebody takes care of it, in one click."""
    actions = board().actions
    if actions is None:
        return
    why = why_not_decide()
    st.button(
        "Acknowledge",
        disabled=why is not None,
        help=why,
        key=f"acknowledge-{incident.id}",
        type="primary",
        width="stretch" if wide else "content",
        on_click=_acknowledge,
        args=(actions, incident.id, _newest(incident)),
    )


def act(incident: IncidentLine) -> None:
    """All that can be done about an incident that is open."""
    actions = board().actions
    if actions is None or incident.resolved_at is not None:
        return
    why = why_not_decide()
    with st.container(key="handle", horizontal=True):
        if incident.handling != "acknowledged":
            acknowledge_button(incident, wide=False)
        for title in ("Silence", "Expect", "Note"):
            with st.popover(title, disabled=why is not None, help=why):
                _form(title, incident, actions)
        if why is not None:
            st.html(markup.heading("", why))
        else:
            name_field()


def name_field() -> None:
    """Who decides, where nobody in front says so."""
    if user() is None:
        st.session_state.setdefault("name", st.session_state.get("who", ""))
        st.text_input(
            "Your name",
            key="name",
            placeholder=board().login or "your name",
            label_visibility="collapsed",
            width=160,
            on_change=_keep_name,
        )


def decide(what: Callable[[str], str]) -> bool:
    """Let it be done under the user's name, and show what is to be said; whether all went as asked."""
    return _do(lambda: what(who()))


def _form(title: str, incident: IncidentLine, actions: Actions) -> None:
    with st.form(f"{title}-{incident.id}", clear_on_submit=True, border=False):
        if title != "Note":
            st.selectbox("For", list(_LASTS), key=f"{title}-for")
        st.text_input("What others should know" if title == "Note" else "Why", key=f"{title}-why")
        st.form_submit_button(title, on_click=_decide, args=(title, actions, incident.id, _newest(incident)))


def _newest(incident: IncidentLine) -> int:
    events, _ = data.history(board().key, incident.id)
    return max((event.id for event in events), default=0)


def _acknowledge(actions: Actions, incident_id: int, seen: int) -> None:
    _do(lambda: actions.acknowledge(incident_id, who=who(), why="", seen=seen))


def _decide(title: str, actions: Actions, incident_id: int, seen: int) -> None:
    why = str(st.session_state.get(f"{title}-why", "")).strip()
    if not why:
        frame.tell("There is no text: write one." if title == "Note" else _WHY)
        return
    if title == "Note":
        _do(lambda: actions.note(incident_id, who=who(), why=why, seen=seen))
        return
    until = board().clock() + _LASTS[st.session_state[f"{title}-for"]]
    decide = actions.silence if title == "Silence" else actions.expect
    _do(lambda: decide(incident_id, until=until, who=who(), why=why, seen=seen))


def _keep_name() -> None:
    """A widget's own value goes with the widget, on the next page."""
    st.session_state["who"] = st.session_state["name"].strip()


def _do(what: Callable[[], str]) -> bool:
    try:
        said = why_not_decide() or what()
    except OodwatchError as refused:  # it is over, or this login may not
        said = str(refused)
    if said:
        frame.tell(said)
    st.cache_data.clear()
    return not said
