"""Pipeline health: how old the newest result is, who runs, what waits, what could not be scored."""

from html import escape

import streamlit as st

from dashboard import data, frame, markup
from dashboard.board import board
from dashboard.frame import Page
from dashboard.scene import trust_of, trust_strip
from dashboard.times import ago
from pipeline.storage.processes import Process

_DEAD = 12


def show() -> None:
    """The page."""
    frame.show(draw, leaves_out=False)


def draw(page: Page) -> None:
    """First how old everything is."""
    stands = data.standing(page.key, page.name, budget_days=board().budget_days)
    trusted = trust_of(page, stands)
    trust_strip(page, trusted)
    age = "no result yet" if trusted.age is None else f"newest result {ago(trusted.age)} old"
    until = stands.evaluated_until
    judged = "nothing is judged yet" if until is None else f"judged up to {page.clock.short(until, page.now)}"
    st.html(markup.title(age[0].upper() + age[1:], f"{judged}; {trusted.waiting:,} images wait"))
    left, right = st.columns([7, 5])
    with left:
        _processes(page, stands.processes)
        _dead(page)
    with right:
        _ledger(page)
        _levels(page)


def _processes(page: Page, running: tuple[Process, ...]) -> None:
    st.html(markup.heading("Processes", "as their heartbeats say"))
    if not running:
        st.html(markup.note("No process beats on this database: oodwatch worker, oodwatch monitor"))
        return
    rows = []
    for one in running:
        age = page.now - one.beat_at
        silent = age > board().silent_after
        state = "✕ silent" if silent else "● ready" if one.state.get("ready") else "○ not ready"
        reasons = "; ".join(map(str, one.state.get("reasons") or ())) or (one.state.get("standby") or "")
        speed = one.state.get("images_per_second")
        rows.append(
            (
                escape(one.role),
                escape(one.name),
                f'<span class="{"alarm" if silent else ""}">{state}</span>',
                ago(age),
                ago(page.now - one.started_at),
                f"{sum((one.state.get('lag') or {}).values()):,}" if one.role == "worker" else "",
                "" if speed is None else f"{speed:,.1f}",
                escape(str(reasons)),
            )
        )
    heads = ("role", "process", "state", "last beat", "up", "waits", "images/s", "")
    st.html(markup.table(heads, rows, numbers=(5, 6)))


def _ledger(page: Page) -> None:
    stands = data.standing(page.key, page.name, budget_days=board().budget_days)
    st.html(markup.heading("Every offset is accounted for", "produced = all that follow"))
    rows = [
        (
            f"{escape(line.topic)}/{line.partition}",
            f"{line.produced:,}",
            f"{line.scored:,}",
            f"{line.dead:,}",
            f"{line.waiting:,}",
            f"{line.expired:,}",
            f"{line.skipped:,}",
            f"{line.holes:,}",
        )
        for line in stands.ledger
    ]
    if not rows:
        st.html(markup.note("No partition has been read yet."))
        return
    heads = ("partition", "produced", "scored", "dead", "waiting", "expired", "skipped", "holes")
    st.html(markup.table(heads, rows, numbers=range(1, 8)))


def _levels(page: Page) -> None:
    stands = data.standing(page.key, page.name, budget_days=board().budget_days)
    st.html(markup.heading("Ticks", "what charts are drawn from"))
    rows = [
        (
            f"{minutes:,} min",
            page.clock.long(oldest),
            page.clock.long(made) if (made := stands.made_until.get(minutes)) else "",
        )
        for minutes, oldest in stands.oldest.items()
    ]
    st.html(markup.table(("ticks of", "from", "made up to"), rows) if rows else markup.note("None is folded yet."))


def _dead(page: Page) -> None:
    found = data.newest_dead_letters(page.key, page.name, _DEAD)
    st.html(markup.heading("Dead letters", f"the newest {_DEAD}; all: oodwatch dead-letters"))
    if not found:
        st.html(markup.note("None: every image that came was scored."))
        return
    rows = [
        (
            page.clock.short(one.at, page.now),
            f"{escape(one.topic)}/{one.partition} {one.offset:,}",
            escape(one.segment or ""),
            escape(one.reason),
            escape(one.error),
        )
        for one in found
    ]
    st.html(markup.table(("at", "where", "segment", "reason", "error"), rows))
