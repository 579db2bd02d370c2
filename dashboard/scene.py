"""A moment of a deployment: what was read for a page, and what it means."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import streamlit as st

from dashboard import data, facts, markup, wording
from dashboard.board import Board, board
from dashboard.data import Standing
from dashboard.facts import Excess, Trust, Verdict
from dashboard.frame import Page
from dashboard.style import rules
from dashboard.windows import MINUTE, live
from pipeline.shift.baseline import Baseline
from pipeline.shift.folding import POOLED

PAST = timedelta(days=7)  # before the onset: what a segment's own normal is taken from
_LOOKED_AT = timedelta(hours=1)  # where nothing is wrong


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything the page shows, once it has been read."""

    page: Page
    stands: Standing
    trusted: Trust
    verdict: Verdict
    shares: list[Excess]
    since: datetime  # the onset; where nothing is wrong, an hour ago
    until: datetime
    segment: str | None  # whose line and pictures are shown
    without: tuple[int, ...] = ()  # segments that the reader leaves out, by key

    @property
    def shown(self) -> tuple[int, ...]:
        """Keys of the segment in view, else of all that are not left out."""
        if self.segment is not None:
            return (self.stands.segment_keys[self.segment],)
        return tuple(key for key in self.stands.segments if key not in self.without)

    @property
    def key(self) -> int:
        """Of the segment in view, else that of all traffic."""
        return POOLED if self.segment is None else self.stands.segment_keys[self.segment]

    @property
    def whole(self) -> str:
        """What all traffic is called, but for what is left out."""
        left_out = len(self.without)
        return "all traffic" if not left_out else f"all but {left_out} segment{'s' if left_out > 1 else ''}"

    @property
    def name(self) -> str:
        """What is in view."""
        return self.segment or self.whole

    @property
    def is_wrong(self) -> bool:
        """Something is, or was in the incident that is looked at."""
        return self.verdict.severity != "ok"


def scene_of(page: Page, parts: Board) -> Scene:
    """Read what a page needs, and say what it means."""
    stands = data.standing(page.key, page.name, budget_days=parts.budget_days)
    trusted = trust_of(page, stands)
    incident = page.incident or facts.worst(stands.incidents)
    verdict = facts.verdict_of_streams(stands.verdicts) if incident is None else facts.verdict_of_incident(incident)
    ended = incident.resolved_at if incident is not None else None
    newest = live(MINUTE, page.now).end
    until = ended or (newest if page.is_live else page.window.end)
    if verdict.onset is not None and until <= verdict.onset:
        until = ended or newest  # the window lies before what is wrong, which is told of all the same
    since = verdict.onset or max(page.window.start, until - _LOOKED_AT)
    without = tuple(stands.segment_keys[name] for name in page.view.without)
    shares = shares_of(page, stands, since, until, without)
    left_out = verdict.segment in page.view.without
    segment = page.view.segment or (None if left_out else verdict.segment)
    if segment is None and verdict.severity != "ok" and shares and shares[0].of_all > 0.5 and not without:
        segment = shares[0].segment
    return Scene(page, stands, trusted, verdict, shares, since, until, segment, without)


def trust_strip(page: Page, trusted: Trust) -> None:
    """The first line of every page."""
    if trusted.stale:
        st.html(rules(page.palette, old=True))
    with st.container(key="trust"):
        words = wording.trust_words(trusted, clock=page.clock, now=page.now)
        st.html(
            markup.trust_strip(
                page.name,
                _window_words(page),
                page.clock.name,
                words,
                old=trusted.stale is not None,
                refreshed=page.clock.exact(page.now),
            )
        )


def trust_of(page: Page, stands: Standing) -> Trust:
    """Whether the figures of this deployment can be believed."""
    return facts.trust(
        stands.ledger,
        stands.processes,
        stands.newest_image,
        stands.evaluated_until,
        now=page.now,
        stale_after=board().stale_after,
        silent_after=board().silent_after,
    )


def baseline_of(page: Page, stands: Standing) -> Baseline | None:
    """What a person accepted as normal."""
    if stands.baseline is None:
        return None
    return data.baseline(page.key, stands.deployment.id, stands.deployment.reference_id, stands.baseline)


def shares_of(
    page: Page, stands: Standing, since: datetime, until: datetime, without: tuple[int, ...] = ()
) -> list[Excess]:
    """Segments by excess in [since, until), each over its own normal of the week before."""
    own = page.key, stands.deployment.id
    now = data.totals(*own, since, until, without=without)
    before = data.totals(*own, since - PAST, since, without=without)
    floor = data.reference(page.key, stands.deployment.reference_id).target_fpr
    names = {key: name for key, name in stands.listed.items() if key not in without}
    return facts.excess(now, before, names, floor)


def _window_words(page: Page) -> str:
    if page.is_live:
        return f"last {page.range}"
    return f"{page.clock.short(page.window.start, page.now)} to {page.clock.short(page.window.end, page.now)}, pinned"
