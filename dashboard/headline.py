"""The verdict on top of a page: one sentence, what belongs to it, and what can be done."""

import streamlit as st

from dashboard import data, facts, frame, markup, wording
from dashboard.board import board
from dashboard.facts import Severity
from dashboard.handling import acknowledge_button
from dashboard.links import View
from dashboard.scene import Scene, shares_of
from dashboard.windows import Window


def verdict(scene: Scene, *, opens: bool = True) -> None:
    """The sentence; `opens`: with the way to its incident."""
    words, buttons = st.columns([9, 3], vertical_alignment="center")
    with words:
        _words(scene)
    if scene.is_wrong and opens:
        with buttons:
            _buttons(scene)


def _words(scene: Scene) -> None:
    page, stands, found = scene.page, scene.stands, scene.verdict
    learning = any(line.state == "learning" for line in stands.verdicts) or not stands.verdicts
    headline = wording.headline(found, scene.trusted, now=page.now, clock=page.clock, learning=learning)
    over = found.incident is not None and found.incident.resolved_at is not None
    severity: Severity = "ok" if over else found.severity
    if found.severity == "ok" and scene.trusted.stale:
        severity = "unknown"
    if found.severity == "ok":
        told = wording.quiet(
            stands.pages, stands.last_page, now=page.now, budget_days=board().budget_days, baseline=stands.baseline
        )
    else:
        events = [] if found.incident is None else data.history(page.key, found.incident.id)[0]
        shares = scene.shares if not scene.without else shares_of(page, stands, scene.since, scene.until)
        told = wording.details(found, shares, facts.newest_answer(events), now=page.now, clock=page.clock)
    others = sum(one.resolved_at is None for one in stands.incidents if one != found.incident)
    if others and found.incident is not None:
        told = [*told, f"{others} more {'incident is' if others == 1 else 'incidents are'} open"]
    st.html(markup.verdict(severity, headline, told))


def _buttons(scene: Scene) -> None:
    incident = scene.verdict.incident
    with st.container(key="handle", horizontal=True):
        with st.container(key="open"):
            if incident is not None:
                frame.link("incidents", "Open", View(incident=incident.id))
            else:
                frame.link("explore", "Open", View(Window(scene.since, scene.until), scene.segment))
        if incident is not None and incident.handling == "open":
            acknowledge_button(incident)
