"""What counts as normal traffic: what was accepted, and how a person accepts another window, seeing what that means."""

from collections.abc import Callable
from datetime import UTC, datetime
from html import escape

import streamlit as st

from dashboard import data, frame, markup
from dashboard.access import who, why_not_decide
from dashboard.background import DESK, Watch
from dashboard.board import board
from dashboard.data import Standing
from dashboard.frame import Page
from dashboard.learnt import learnt, week
from dashboard.proposals import Preparing, Proposal, quiet_stretch, times_raised
from dashboard.scene import Scene
from dashboard.times import percent
from dashboard.windows import Window
from pipeline.errors import OodwatchError

_LIMIT_S = 120.0
_LISTED = 12
_FORM = "%Y-%m-%dT%H:%MZ"


def accepted(scene: Scene) -> None:
    """All versions, newest first."""
    page, deployment = scene.page, scene.stands.deployment
    known = data.baselines(page.key, deployment.id, deployment.reference_id)
    st.html(markup.heading("Accepted as normal", "the newest that is not revoked counts"))
    if not known:
        st.html(
            markup.note(
                "Nobody has accepted a baseline, so whatever is raised is provisional and never paged. Choose at least"
                " three whole days without an incident."
            )
        )
        return
    rows = [
        (
            f"{one.version}{'' if one.version != scene.stands.baseline else ', counts'}",
            f"{one.window_start:%Y-%m-%d} to {one.window_end:%Y-%m-%d}, {one.days} days",
            escape(one.name),
            escape(one.reason),
            "" if one.revoked_at is None else f"revoked by {escape(one.revoked_by or '?')}",
        )
        for one in reversed(known)
    ]
    st.html(markup.table(("version", "window", "accepted by", "why", ""), rows))
    _revoke(page, scene.stands)


def pace() -> float | None:
    """How often `wizard` has to be drawn: often while it calculates."""
    work = DESK.of(st.session_state.get("proposed"))
    return 1.0 if work is not None and not work.done else None


def wizard(page: Page) -> None:
    """Choose a window; see what is learnt and what it would have raised; accept it, or revoke the last one."""
    preparing = board().preparing
    if preparing is None:
        return
    stands = data.standing(page.key, page.name, budget_days=board().budget_days)
    st.html(markup.heading("Accept another window as normal", "nothing is stored before you say so"))
    stored = data.acceptable(page.key, stands.deployment.id, stands.deployment.reference_id)
    if stored is None:
        st.html(markup.note("No minute of this reference has been judged yet, so there is nothing to accept."))
        return
    with st.container(key="wizard"):
        window = _choose(page, stands, stored, preparing)
        what = _what(page, stands, window)
        work = DESK.of(what)
        if work is None:
            st.html(markup.note("Not calculated yet for this window: it takes some seconds, two minutes at most."))
        elif not work.done:
            st.progress(min(work.share, 1.0), text=f"{work.doing or 'reading'} …")
            st.session_state["calculates"] = True
        elif st.session_state.pop("calculates", False):
            st.rerun()  # back to the page's own pace
        elif work.failed is not None:
            st.html(markup.note(f"Nothing was learnt: {work.failed}", doubt=True))
        else:
            _shown(page, stands, work.result, preparing)


def _choose(page: Page, stands: Standing, stored: Window, preparing: Preparing) -> Window:
    quiet = quiet_stretch(
        stored, stands.incidents, data.transitions(page.key, stands.deployment.id, stored.start, stored.end)
    )
    st.html(
        markup.heading(
            "",
            f"stored: {stored.start:{_FORM}} to {stored.end:{_FORM}}; the longest quiet stretch is {_length(quiet)}"
            f" from {quiet.start:{_FORM}}",
        )
    )
    ends = []
    with st.container(key="choose", horizontal=True, vertical_alignment="bottom"):
        for label, at in (("From, UTC", quiet.start), ("To, UTC", quiet.end)):
            key = f"normal-{label[:2]}-{stands.deployment.id}"
            st.session_state.setdefault(key, _kept(key) or at.replace(tzinfo=None))
            chosen = st.datetime_input(label, key=key, step=3600, format="YYYY-MM-DD", width=230)
            st.session_state[f"{key}-kept"] = chosen
            ends.append((chosen or at).replace(tzinfo=UTC))
        window = Window(*ends)
        if st.button("Show what it means", type="primary"):
            _begin(page, stands, window, preparing)
    return window


def _kept(key: str) -> datetime | None:
    """A widget's own value goes with the widget, on another page."""
    kept: datetime | None = st.session_state.get(f"{key}-kept")
    return kept


def _begin(page: Page, stands: Standing, window: Window, preparing: Preparing) -> None:
    name = stands.deployment.name

    def propose(watch: Watch) -> Proposal:
        return preparing.propose(name, *window, watch=watch)

    what = _what(page, stands, window)
    try:
        DESK.begin(what, propose, limit_s=_LIMIT_S)
    except OodwatchError as refused:
        frame.tell(str(refused))
    st.session_state["proposed"] = what
    st.rerun()  # the whole page, so that this part is drawn more often


def _what(page: Page, stands: Standing, window: Window) -> tuple[object, ...]:
    return "proposal", page.key, stands.deployment.id, stands.deployment.reference_id, *window


def _shown(page: Page, stands: Standing, proposal: Proposal, preparing: Preparing) -> None:
    line = proposal.line
    told = [f"{line.days} whole days, {line.summary['images']:,} images, {percent(line.summary['share'])} flagged"]
    told += proposal.notes
    st.html(markup.heading(f"{_length(Window(line.window_start, line.window_end))} as normal", "; ".join(told)))
    for text in (*line.summary["provisional"], *proposal.against):
        st.html(markup.note(text[0].upper() + text[1:] + ".", doubt=True))
    left, right = st.columns(2)
    present = None
    if stands.baseline is not None:
        present = data.baseline(page.key, stands.deployment.id, stands.deployment.reference_id, stands.baseline)
    with left:
        _would_raise(page, stands, proposal)
        _accept(proposal, preparing)
    with right:
        learnt(page, stands, line)
        week(page, proposal.baseline, present)


def _would_raise(page: Page, stands: Standing, proposal: Proposal) -> None:
    judged = Window(proposal.judged.start, proposal.until)
    was = times_raised(data.transitions(page.key, stands.deployment.id, *judged), judged)
    when = f"{page.clock.short(judged.start, page.now)} to {page.clock.short(judged.end, page.now)}, stored minutes"
    st.html(markup.heading(f"It would have raised {_times(proposal.raises)}; raised was {_times(was)}", when))
    if proposal.until < proposal.judged.end:
        st.html(markup.note("Time was up: later minutes were not judged.", doubt=True))
    if not proposal.changes:
        st.html(markup.note("No stream would have changed its state."))
        return
    rows = [
        (
            page.clock.short(one.start, page.now),
            escape(one.stream.removeprefix("segment:")),
            escape(one.change),
            "" if one.share is None else percent(one.share),
        )
        for one in proposal.changes[-_LISTED:]
    ]
    st.html(markup.table(("minute", "stream", "change", "share"), rows, numbers=(3,)))
    if len(proposal.changes) > _LISTED:
        st.html(markup.heading("", f"the last {_LISTED} of {len(proposal.changes)}"))


def _accept(proposal: Proposal, preparing: Preparing) -> None:
    why_not = why_not_decide()
    with st.form("accept-normal", border=False):
        st.text_input("Why this is normal", key="normal-why", disabled=why_not is not None)
        if proposal.against:
            st.checkbox("It is to count all the same", key="normal-force")
        st.form_submit_button(
            f"Accept as baseline {proposal.line.version}",
            disabled=why_not is not None,
            help=why_not,
            type="primary",
            on_click=_do,
            args=(lambda: _accepting(proposal, preparing),),
        )
    st.html(markup.heading("", why_not or f"as {who()}; the detector begins anew with it, without evidence"))


def _accepting(proposal: Proposal, preparing: Preparing) -> str:
    why, force = str(st.session_state.get("normal-why", "")), bool(st.session_state.get("normal-force"))
    return preparing.accept(proposal, who=who(), why=why, force=force)


def _revoke(page: Page, stands: Standing) -> None:
    preparing = board().preparing
    if stands.baseline is None or preparing is None:
        return
    why_not = why_not_decide()
    with st.popover(f"Revoke baseline {stands.baseline}", disabled=why_not is not None, help=why_not):
        st.html(markup.note(f"The one before it counts again, or none. It is recorded as done by {who()}."))
        st.button("Revoke", key="revoke-normal", on_click=_do, args=(lambda: preparing.revoke(page.name, who=who()),))


def _do(decide: Callable[[], str]) -> None:
    try:
        said = why_not_decide() or decide()
    except OodwatchError as refused:
        said = str(refused)
    frame.tell(said)
    st.cache_data.clear()


def _times(n: int) -> str:
    return {0: "nothing", 1: "once", 2: "twice"}.get(n, f"{n} times")


def _length(window: Window) -> str:
    hours = window.length.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.0f} h"
