"""The blind-spot card: what the detector will find of a change, how soon, and what it cannot see."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import NamedTuple

import numpy as np
import streamlit as st

from dashboard import data, frame, markup
from dashboard.background import DESK, Watch
from dashboard.board import board
from dashboard.scene import Scene, baseline_of
from dashboard.times import ago, percent
from pipeline.errors import OodwatchError
from pipeline.records import Card, Reference
from pipeline.scoring.card import sight
from pipeline.shift.budget import MINUTES_PER_DAY, Budget, Thresholds
from pipeline.shift.folding import POOLED
from pipeline.shift.threshold import NO_ALERTS_BELOW
from pipeline.simulation.power import SHARES, Damage, Found, PowerCard, Question, traffic_of

_DAY = timedelta(days=1)
_LIMIT_S = 120.0
_SEEN = {"flagged": "seen", "histogram": "seen by the histogram alone", "blind": "not seen", "false_alarms": "no harm"}


class Traffic(NamedTuple):
    """What a calculation is for."""

    rate: float  # images a minute, to two digits
    segments: int
    d: float | None  # so many images count as one, where that is known


class Answer(NamedTuple):
    """What was calculated, for which traffic and when; it stands while traffic moves on."""

    found: tuple[Found, ...]
    traffic: Traffic
    at: datetime


def card(scene: Scene, reference: Reference) -> None:
    """From what calibration measured; minutes only where somebody has had them calculated."""
    st.html(markup.heading("Blind spots", "its own images, damaged: which of that would be found, and how soon"))
    key = _key(scene, reference)
    work = None if key is None else DESK.of(key)
    answer: Answer | None = work.result if work is not None and work.done and work.failed is None else None
    _damages(reference, () if answer is None else answer.found)
    _soon(scene, reference, answer)


def pace() -> float | None:
    """How often the card has to be drawn: often while it calculates."""
    work = DESK.of(st.session_state.get("power"))
    return 2.0 if work is not None and not work.done else None


def _damages(reference: Reference, found: Sequence[Found]) -> None:
    card, score = reference.card, reference.score_name
    if card is None or score not in card.lines[0].flagged:
        st.html(markup.note("Not measured: this reference was made without a card. oodwatch calibrate makes one."))
        return
    known = sight(card, score)
    said = {kind: words for name, words in _SEEN.items() for kind in getattr(known, name)}
    minutes = {one.change: _minutes(one) for one in found}
    labelled = card.lines[0].accuracy is not None
    rows = [
        (
            f"{escape(line.kind)}<br><small>{_said(said.get(line.kind), is_first=line is card.lines[0])}</small>",
            markup.bar(line.flagged[score]),
            percent((line.accuracy if labelled else line.agreement) or 0.0),
            escape(minutes.get(line.kind, "")),
        )
        for line in card.lines
    ]
    heads = ("damage", "flagged", "right" if labelled else "same class", "found in" if minutes else "")
    st.html(markup.table(heads, rows, numbers=(2, 3)))
    if known.blind:
        told = f"It cannot see: {', '.join(known.blind)}. The model is wrong there, and neither flags nor scores move."
        st.html(markup.note(told, doubt=True))
    st.html(
        markup.heading(
            "", f"of {card.n:,} images at calibration; {percent(card.target_fpr)} of normal ones are flagged"
        )
    )


def _said(words: str | None, *, is_first: bool) -> str:
    if is_first:
        return "normal images"
    words = words or "harmless, and not flagged"
    return f'<span class="alarm">{words}</span>' if words == _SEEN["blind"] else words


def _soon(scene: Scene, reference: Reference, answer: Answer | None) -> None:
    key = _key(scene, reference)
    st.html(markup.heading("How soon?", "the detector itself on simulated traffic like that of the last day"))
    if key is None:
        st.html(
            markup.note("Not calculated: there was hardly any traffic in the last day, or the reference is too small.")
        )
        return
    work = DESK.of(key)
    if work is not None and not work.done:
        st.progress(min(work.share, 1.0), text=f"{work.doing or 'simulating'} …")
        st.session_state["simulates"] = True
        return
    if st.session_state.pop("simulates", False):
        st.rerun()  # back to the page's own pace
    if work is not None and work.failed is not None:
        st.html(markup.note(f"Not calculated: {work.failed}", doubt=True))
    if answer is None:
        st.html(markup.note("Not calculated yet: it takes about half a minute, two at most."))
    else:
        _table(scene, answer)
    if st.button("Calculate how soon" if answer is None else "Calculate again", key="calculate-power"):
        _begin(scene, reference, key)


def _table(scene: Scene, answer: Answer) -> None:
    shares = [one for one in answer.found if one.change.endswith(" flagged")]
    rows = [(escape(one.change), escape(one.where), _minutes(one)) for one in shares]
    st.html(markup.table(("unusual images", "where", "found in"), rows, numbers=(2,)))
    traffic, age = answer.traffic, ago(scene.page.now - answer.at)
    rate, segments, d = traffic
    differs = "; traffic has changed since" if traffic != _traffic(scene) else ""
    counted = "images are taken as independent: no baseline says how they clump" if d is None else f"D = {d:.2g}"
    st.html(
        markup.heading(
            "",
            f"half of them by then, 95 % by the second figure; {rate:,.3g} images/min, {segments} segments, {counted};"
            f" calculated {age} ago{differs}",
        )
    )


def _minutes(one: Found) -> str:
    if one.median_minutes is None:
        return f"not within {one.limit_minutes:,.0f} min"
    if one.most_minutes == one.median_minutes:
        return f"{one.median_minutes:,.0f} min"
    most = f"> {one.limit_minutes:,.0f}" if one.most_minutes is None else f"{one.most_minutes:,.0f}"
    return f"{one.median_minutes:,.0f} to {most} min"


def _traffic(scene: Scene) -> Traffic:
    """Images a minute to two digits, segments, and how many images count as one, if that is known."""
    page, stands = scene.page, scene.stands
    counted = data.totals(page.key, stands.deployment.id, page.now - _DAY, page.now)
    rate = counted[POOLED].n / (_DAY / timedelta(minutes=1)) if POOLED in counted else 0.0
    known = baseline_of(page, stands)
    present = sum(key != POOLED and one.n > 0 for key, one in counted.items())
    return Traffic(float(f"{rate:.1e}"), max(1, present), None if known is None else known.pooled.d)


def _key(scene: Scene, reference: Reference) -> tuple[object, ...] | None:
    if _traffic(scene).rate < 1 / 60 or reference.n < NO_ALERTS_BELOW:
        return None
    return "power", scene.page.key, scene.stands.deployment.id, reference.id, scene.stands.baseline


def _begin(scene: Scene, reference: Reference, key: tuple[object, ...]) -> None:
    rate, segments, d = now = _traffic(scene)
    at = scene.page.now
    thresholds, budget = Thresholds(*board().levels), Budget(minutes=board().budget_days * MINUTES_PER_DAY)
    traffic = traffic_of(rate / (d or 1.0), segments)
    question = Question(traffic, reference.n, reference.target_fpr, budget, thresholds)
    kinds = _kinds(reference.card, reference.score_name)

    def simulate(watch: Watch) -> Answer:
        return Answer(tuple(_simulated(question, kinds, watch)), now, at)

    try:
        DESK.begin(key, simulate, limit_s=_LIMIT_S)
    except OodwatchError as refused:
        frame.tell(str(refused))
    st.session_state["power"] = key
    st.rerun()


def _simulated(question: Question, kinds: Sequence[Damage], watch: Watch) -> Iterator[Found]:
    watch(0.0, "normal traffic")
    power = PowerCard(question, np.random.default_rng(0))
    wanted = [share for share in SHARES if share > question.target_fpr]
    total = len(wanted) * (2 if question.traffic.segments > 1 else 1) + len(kinds)
    at = 0
    for changes in (power.shares(wanted), power.damage(kinds)):
        for one in changes:
            at += 1
            watch(at / total, one.change)
            yield one


def _kinds(card: Card | None, score: str) -> list[Damage]:
    """Damage with stored histograms; cards of older releases have none."""
    if card is None or score not in (before := card.lines[0].shares or {}):
        return []
    return [
        Damage(line.kind, np.array(line.shares[score]), np.array(before[score]), line.flagged[score])
        for line in card.lines[1:]
        if line.shares is not None
    ]
