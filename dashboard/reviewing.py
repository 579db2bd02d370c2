"""Verdicts on single images by three keys: a real shift, noise, bad input. After each, the next image is looked at."""

from collections.abc import Sequence

import streamlit as st

from dashboard import data, facts, markup
from dashboard.access import why_not_decide
from dashboard.actions import Actions
from dashboard.board import board
from dashboard.frame import Page
from dashboard.handling import decide, name_field
from dashboard.times import percent
from pipeline.alerts.precision import VERDICTS, Share, Verdict, counts, precision
from pipeline.storage.incident_pages import IncidentLine
from pipeline.storage.reviews import ReviewLine
from pipeline.storage.sample_pages import Picture

_WORDS: dict[Verdict, str] = {"shift": "real shift", "noise": "noise", "bad_input": "bad input"}
_REMEMBERED = 100  # verdicts that can be undone


def near(found: Sequence[Picture]) -> int:
    """Which of these is looked at, from 0; the same image stays in view where others come before it."""
    ids = [one.id for one in found]
    kept = st.session_state.get("near")
    at = ids.index(kept) if kept in ids else min(int(st.session_state.get("closer", 1)), len(ids)) - 1
    st.session_state["closer"] = at + 1
    st.number_input("Look closer at", 1, len(ids), key="closer", on_change=_turn_by_number, args=(ids,))
    return at


def judge(found: Sequence[Picture], at: int, said: dict[int, ReviewLine]) -> None:
    """The three buttons with their keys; none where nobody may decide."""
    actions = board().actions
    if actions is None:
        return
    one, after = found[at], found[min(at + 1, len(found) - 1)].id
    before = said[one.id].verdict if one.id in said else None
    why = why_not_decide()
    with st.container(key="judge", horizontal=True, gap="small"):
        for key, verdict in enumerate(VERDICTS, 1):
            st.button(
                _WORDS[verdict].capitalize(),
                key=f"judge-{verdict}",
                shortcut=str(key),
                type="primary" if verdict == before else "secondary",
                disabled=why is not None,
                help=why,
                on_click=_judge,
                args=(actions, one.id, before, verdict, after),
            )
        st.button("Skip", key="judge-skip", shortcut="Right", type="tertiary", on_click=_turn, args=(after,))
        if st.session_state.get("judged"):
            st.button("Undo", key="judge-undo", shortcut="U", type="tertiary", on_click=_undo, args=(actions,))
    judged = sum(picture.id in said for picture in found)
    st.html(markup.heading("", f"{judged} of {len(found)} judged; keys 1, 2, 3, → and U"))
    if why is None:
        name_field()


def mark(said: ReviewLine | None) -> str:
    """A verdict in a word; empty: there is none."""
    return "" if said is None or said.verdict is None else _WORDS[said.verdict]


def history(page: Page, one: Picture) -> str:
    """Who said what of an image, the newest first."""
    lines = data.history_of_image(page.key, one.id)
    told = [
        f"{'withdrawn' if line.verdict is None else _WORDS[line.verdict]} by {line.who}, "
        f"{page.clock.short(line.at, page.now)}"
        for line in reversed(lines)
    ]
    return "; before that: ".join(told) or "none yet"


def were_right(page: Page, deployment_id: int, incidents: Sequence[IncidentLine], incident: IncidentLine) -> None:
    """How often alerts were a real shift, by what people said of flagged images."""
    judged = data.judged(page.key, deployment_id)
    st.html(markup.heading("Were alerts right?", "by what people said of flagged images"))
    if not judged:
        st.html(markup.note("Nobody has judged an image yet: on Samples, the keys 1, 2 and 3 do."))
        return
    own = counts(image for image in judged if facts.raised(incident).is_about(image))
    found = precision((facts.raised(one) for one in incidents if one.kind == "shift"), judged)
    told = ", ".join(f"{n} {_WORDS[verdict]}" for verdict, n in own.items() if n) or "none judged yet"
    rows = [
        ("this incident", markup.plain(told)),
        ("incidents that were real", _share(found.incidents)),
        ("flagged images that were real", _share(found.images)),
    ]
    st.html(markup.table(("", ""), rows))


def _share(share: Share) -> str:
    if not share.n:
        return "not known yet"
    low, high = percent(share.low), percent(share.high)
    return f"{share.k} of {share.n} judged: {percent(share.k / share.n)} ({low} to {high})"


def _judge(actions: Actions, sample_id: int, before: Verdict | None, verdict: Verdict, after: int) -> None:
    if decide(lambda who: actions.review(sample_id, verdict, who=who)):
        st.session_state["judged"] = [*st.session_state.get("judged", ()), (sample_id, before)][-_REMEMBERED:]
        _turn(after)


def _undo(actions: Actions) -> None:
    """Back to the image that was judged last, and to what was said of it before."""
    *rest, (sample_id, before) = st.session_state["judged"]
    if decide(lambda who: actions.review(sample_id, before, who=who)):
        st.session_state["judged"] = rest
        _turn(sample_id)


def _turn(sample_id: int) -> None:
    st.session_state["near"] = sample_id


def _turn_by_number(ids: Sequence[int]) -> None:
    _turn(ids[int(st.session_state["closer"]) - 1])
