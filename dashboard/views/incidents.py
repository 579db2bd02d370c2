"""Incidents: what is open and what was, one at a time: against its limits, why, what happened, who was told."""

from functools import partial
from html import escape
from typing import Any

import streamlit as st

from dashboard import data, facts, frame, looks, markup, reviewing, trends, wording
from dashboard.access import may_see_images
from dashboard.board import board
from dashboard.frame import Page
from dashboard.handling import act
from dashboard.headline import verdict
from dashboard.links import View
from dashboard.scene import Scene, scene_of, trust_of, trust_strip
from dashboard.times import ago, percent
from pipeline.storage.incident_pages import DeliveryLine, IncidentLine, TransitionLine
from pipeline.storage.incidents import EventLine

_LISTED = 12
_SIGNS = {"shift": "◇", "warning": "◆", "critical": "▲", "error": "☒", "baseline_invalid": "☒"}


def show() -> None:
    """The page."""
    frame.show(draw, leaves_out=False)


def draw(page: Page) -> None:
    """A list, and the chosen one."""
    stands = data.standing(page.key, page.name, budget_days=board().budget_days)
    known = stands.incidents
    chosen = page.incident or facts.worst(known) or next(iter(known), None)
    if chosen is None:
        trust_strip(page, trust_of(page, stands))
        quiet = wording.quiet(
            stands.pages, None, now=page.now, budget_days=board().budget_days, baseline=stands.baseline
        )
        st.html(markup.empty("No incident yet.", ("What the detector raises will be listed here.", *quiet)))
        return
    scene = scene_of(frame.looking_at(page, chosen), board())
    trust_strip(scene.page, scene.trusted)
    with st.container(key="body"):
        listed, detail = st.columns([2, 9])
        with listed:
            _list(page, known, chosen)
        with detail:
            verdict(scene, opens=False)
            act(chosen)
            _detail(scene, chosen)


def _list(page: Page, known: tuple[IncidentLine, ...], chosen: IncidentLine) -> None:
    st.html(markup.heading("Incidents", "open ones first"))
    for one in known[:_LISTED]:
        words = _listed(page, one)
        if one.id == chosen.id:
            st.html(f'<div class="ow ow-chosen" aria-current="true">{escape(words)}</div>')
        else:
            frame.link("incidents", words, View(incident=one.id))
    if len(known) > _LISTED:
        st.html(markup.heading("", f"{len(known) - _LISTED} older ones: ?incident=NUMBER"))


def _listed(page: Page, one: IncidentLine) -> str:
    lead = facts.leading(one.alerts)
    where = (lead.segment or "all traffic") if lead else one.kind
    sign = "○" if one.resolved_at is not None else _SIGNS.get(one.state, "◇")
    state = f"was {one.peak}" if one.resolved_at is not None else one.state
    return f"{sign} {where}, {state}, {page.clock.short(one.onset, page.now)}"


def _detail(scene: Scene, incident: IncidentLine) -> None:
    page = scene.page
    events, deliveries = data.history(page.key, incident.id)
    answer = facts.newest_answer(events)
    left, right = st.columns([8, 4])
    with left:
        trends.few(scene)
        with st.container(key="wide"):
            trends.line(scene)
        with st.container(key="phone"):
            trends.line(scene, phone=True)
        _alerts(scene, incident)
        changes = data.transitions(
            page.key, scene.stands.deployment.id, incident.onset, incident.resolved_at or page.window.end
        )
        _history(page, events, deliveries, changes)
    with right:
        _causes(answer)
        looks.pictures(scene)
        frame.link("samples", "Look at its images", View(segment=scene.segment, incident=incident.id))
        reviewing.were_right(page, scene.stands.deployment.id, scene.stands.incidents, incident)
        looks.histogram(scene)
        _save(incident)


def _save(incident: IncidentLine) -> None:
    st.download_button(
        "Save the evidence",
        data=partial(data.evidence, incident.id, pictures=may_see_images()),
        file_name=f"incident-{incident.id}.zip",
        mime="application/zip",
        help="A zip that opens offline: this page, its figures, events and samples.",
        key="evidence",
        on_click="ignore",
        width="stretch",
    )


def _causes(answer: dict[str, Any]) -> None:
    causes = [one for one in answer.get("cause") or () if one.get("kind") != "unknown"]
    st.html(markup.heading("Looks like", "a ranking, never a verdict" if causes else ""))
    if not causes:
        st.html(markup.note("No cause was ranked for it: look at the images, and at what changed then."))
        return
    told = "".join(
        f"<p><b>{escape(str(one.get('title', '')))}</b> <small>{float(one.get('score', 0)):.2f}</small><br>"
        + "<br>".join(f'<span class="soft">{escape(str(line))}</span>' for line in one.get("evidence") or ())
        + "</p>"
        for one in causes[:3]
    )
    st.html(f'<div class="ow ow-causes">{told}</div>')


def _alerts(scene: Scene, incident: IncidentLine) -> None:
    page = scene.page
    if not incident.alerts:
        return
    st.html(markup.heading("Alerts", "share since the onset, with its 95 % interval"))
    rows = [
        (
            escape(wording.signal_name(one.signal)),
            escape(one.segment or "all traffic"),
            f"{_SIGNS.get(one.state, '○')} {escape(one.state)}",
            "" if one.share is None else percent(one.share),
            "" if one.low is None or one.high is None else f"{percent(one.low)} to {percent(one.high)}",
            page.clock.short(one.onset, page.now),
            page.clock.short(one.raised_at, page.now),
            "" if one.resolved_at is None else page.clock.short(one.resolved_at, page.now),
        )
        for one in sorted(incident.alerts, key=lambda alert: (-facts.rank(alert.state), alert.signal, alert.segment))
    ]
    heads = ("signal", "segment", "state", "share", "interval", "since", "raised", "ended")
    st.html(markup.table(heads, rows, numbers=(3, 4)))


def _history(
    page: Page, events: list[EventLine], deliveries: list[DeliveryLine], changes: list[TransitionLine]
) -> None:
    told = {event.id: [one for one in deliveries if one.event_id == event.id] for event in events}
    rows = [
        (
            page.clock.short(event.at, page.now),
            escape(_event(event)),
            escape(event.who),
            escape(event.why),
            "<br>".join(escape(_delivery(one, event)) for one in told[event.id]),
        )
        for event in events
    ]
    st.html(markup.heading("What happened", "and who was told"))
    st.html(markup.table(("at", "what", "by", "why", "told"), rows) if rows else markup.note("Nothing is recorded."))
    if changes:
        st.html(markup.heading("Evidence", "odds against normal traffic when a state changed"))
        st.html(
            markup.table(
                ("minute", "signal", "from", "to", "evidence"),
                [
                    (
                        page.clock.short(one.tick, page.now),
                        escape(_stream(one.stream)),
                        escape(one.from_state),
                        escape(one.state),
                        f"10<sup>{one.log_evidence / 2.302585:.1f}</sup> to 1",
                    )
                    for one in changes[-20:]
                ],
            )
        )


def _event(event: EventLine) -> str:
    what = event.kind.replace("_", " ")
    where = "" if event.signal is None else f" {wording.signal_name(event.signal)}, {event.segment or 'all traffic'}"
    states = "" if event.to_state is None else f": {event.from_state or '?'} → {event.to_state}"
    return f"{what}{where}{states}"


def _delivery(one: DeliveryLine, event: EventLine) -> str:
    if one.delivered_at is not None:
        return f"{one.channel} after {ago(one.delivered_at - event.at)}"
    if one.given_up_at is not None:
        return f"{one.channel}: given up after {one.attempts} attempts, {one.last_error or 'no reason known'}"
    return f"{one.channel}: waits, {one.attempts} attempts so far"


def _stream(stream: str) -> str:
    signal, segment = facts.signal_of(stream)
    return f"{wording.signal_name(signal)}, {segment or 'all traffic'}"
