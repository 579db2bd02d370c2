"""Overview: is anything wrong, how much, since when, where, what kind; can I trust it, who has it, does it matter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

import numpy as np
import streamlit as st

from dashboard import charts, data, facts, frame, markup, wording
from dashboard.board import Board, board
from dashboard.data import Standing
from dashboard.facts import FEW, Excess, Trust, Verdict
from dashboard.frame import Page
from dashboard.handling import acknowledge_button
from dashboard.links import View
from dashboard.normal import at_least, calm, shape
from dashboard.style import rules
from dashboard.times import percent, rarity
from dashboard.windows import MINUTE, MOST_CELLS, Cut, Window, aligned, cut, live, to_ms
from pipeline.shift.baseline import Baseline
from pipeline.shift.folding import POOLED
from pipeline.storage.sample_pages import Picture
from pipeline.storage.series import Bucket

_ROWS = 8
_PICTURES = 4
_PAST = timedelta(days=7)  # before the onset: what a segment's own normal is taken from
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

    @property
    def is_wrong(self) -> bool:
        """Something is, or was in the incident that is looked at."""
        return self.verdict.severity != "ok"


def show() -> None:
    """The page."""
    frame.show(draw)


def draw(page: Page) -> None:
    """Top to bottom."""
    scene = _scene(page, board())
    trust_strip(page, scene.trusted)
    for message in page.messages:
        st.html(markup.note(message))
    if scene.stands.newest_image is None:
        st.html(markup.empty("No images scored yet.", ("A worker is set up; it waits for the first image.",)))
        return
    _verdict(scene)
    with st.container(key="body"):
        left, right = st.columns([8, 4])
        with left:
            with st.container(key="wide"):
                _line(scene)
                _strip(scene)
            with st.container(key="phone"):
                _bars(scene)
                _line(scene, phone=True)
        with right:
            _pictures(scene)
            with st.container(key="histogram"):
                _histogram(scene)
    with st.container(key="foot"):
        _signals(scene)


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


def shares_of(page: Page, stands: Standing, since: datetime, until: datetime) -> list[Excess]:
    """Segments by excess in [since, until), each over its own normal of the week before."""
    now = data.totals(page.key, stands.deployment.id, since, until)
    before = data.totals(page.key, stands.deployment.id, since - _PAST, since)
    floor = data.reference(page.key, stands.deployment.reference_id).target_fpr
    return facts.excess(now, before, stands.segments, floor)


def _scene(page: Page, parts: Board) -> Scene:
    stands = data.standing(page.key, page.name, budget_days=parts.budget_days)
    trusted = trust_of(page, stands)
    incident = page.incident or facts.worst(stands.incidents)
    verdict = facts.verdict_of_streams(stands.verdicts) if incident is None else facts.verdict_of_incident(incident)
    ended = incident.resolved_at if incident is not None else None
    until = ended or (page.window.end if not page.is_live else live(MINUTE, page.now).end)
    since = verdict.onset or max(page.window.start, until - _LOOKED_AT)
    shares = shares_of(page, stands, since, until)
    segment = page.view.segment or verdict.segment
    if segment is None and verdict.severity != "ok" and shares and shares[0].of_all > 0.5:
        segment = shares[0].segment
    return Scene(page, stands, trusted, verdict, shares, since, until, segment)


def _window_words(page: Page) -> str:
    if page.is_live:
        return f"last {page.range}"
    return f"{page.clock.short(page.window.start, page.now)} to {page.clock.short(page.window.end, page.now)}, pinned"


def _verdict(scene: Scene) -> None:
    page, stands, verdict = scene.page, scene.stands, scene.verdict
    learning = any(line.state == "learning" for line in stands.verdicts) or not stands.verdicts
    headline = wording.headline(verdict, scene.trusted, now=page.now, clock=page.clock, learning=learning)
    severity = "unknown" if verdict.severity == "ok" and scene.trusted.stale else verdict.severity
    if verdict.severity == "ok":
        told = wording.quiet(
            stands.pages, stands.last_page, now=page.now, budget_days=board().budget_days, baseline=stands.baseline
        )
    else:
        answer = {}
        if verdict.incident is not None:
            answer = facts.newest_answer(data.history(page.key, verdict.incident.id)[0])
        told = wording.details(verdict, scene.shares, answer, now=page.now, clock=page.clock)
    words, buttons = st.columns([9, 3], vertical_alignment="center")
    with words:
        st.html(markup.verdict(severity, headline, told))
    if scene.is_wrong:
        with buttons:
            _buttons(scene)


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


def _line(scene: Scene, *, phone: bool = False) -> None:
    page = scene.page
    window = live(timedelta(hours=6), page.now) if phone and page.is_live else page.window
    key = POOLED if scene.segment is None else scene.stands.segment_keys[scene.segment]
    counted = data.totals(page.key, scene.stands.deployment.id, *window).get(key)
    rate = 0.0 if counted is None else counted.n / (window.length / MINUTE)
    how = cut(window, scene.stands.oldest, rate=rate)
    found = data.buckets(page.key, scene.stands, window, how, tuple({key, POOLED}))
    points = _points(scene, [one for one in found if one.segment_id == key], found, window, how)
    name = scene.segment or "all traffic"
    every = "all traffic" if scene.segment else None
    normal = next((one.normal for one in scene.shares if one.segment == scene.segment), None)
    usual = "normal" if normal is None else f"normal {percent(normal)}"
    banded = any(one.low is not None for one in points)
    band = f", band = lowest to highest {_ticks(how.level)}" if banded else ""
    legend = "; grey line = all traffic" if phone and scene.segment else ""
    st.html(
        markup.heading(
            f"Unusual images, {name}",
            f"one step = {_ticks(how.width)}{band}; shaded grey = normal{legend}; {page.clock.name}",
        )
    )
    if not found:
        st.html(markup.note("No image was scored in this window."))
        return
    spec = charts.line(
        points,
        window,
        page.palette,
        labels=charts.Labels(name, every, usual),
        levels=board().levels,
        onset=_onset_ms(scene, window),
        until=None
        if scene.verdict.incident is None or scene.verdict.incident.resolved_at is None
        else to_ms(scene.until),
        marks=[(to_ms(mark.at), mark.text) for mark in data.marks(page.key, scene.stands.deployment.id, *window)],
        utc=page.clock.is_utc,
        height=160 if phone else 300,
        margins=(38, 0) if phone else charts.MARGINS,
    )
    st.vega_lite_chart(spec, width="stretch", theme=None, key="line-phone" if phone else "line")


def _points(
    scene: Scene, own: Sequence[Bucket], every: Sequence[Bucket], window: Window, how: Cut
) -> list[charts.Point]:
    """A bucket for each step of the window: one without images is a gap, and not zero."""
    page, stands = scene.page, scene.stands
    reference = data.reference(page.key, stands.deployment.reference_id)
    accepted = baseline_of(page, stands)
    typical = median([one.n for one in own]) if own else 1.0
    mine = {one.start: one for one in own}
    pooled = {one.start: one for one in every if one.segment_id == POOLED}
    complete = stands.evaluated_until or window.end
    points = []
    at = aligned(window, how.width).start
    while at < window.end:
        bucket, other = mine.get(at), pooled.get(at)
        band = calm(reference, accepted, scene.segment, at, typical)
        few = bucket is not None and (bucket.n < FEW or at + how.step > complete)
        # The lowest and highest of ticks with a handful of images would be noise.
        banded = bucket is not None and not few and how.level < how.width and bucket.n * how.level >= FEW * how.width
        points.append(
            charts.Point(
                start=to_ms(at),
                end=to_ms(at + how.step),
                share=None if bucket is None else bucket.share,
                low=bucket.low if bucket is not None and banded else None,
                high=bucket.high if bucket is not None and banded else None,
                of_all=None if other is None else other.share,
                calm_low=band.low,
                calm_high=band.high,
                n=0 if bucket is None else bucket.n,
                hollow=few,
                when=page.clock.short(at, page.now),
            )
        )
        at += how.step
    return points


def _strip(scene: Scene) -> None:
    page = scene.page
    shown = scene.shares[:_ROWS]
    how = cut(page.window, scene.stands.oldest, most=MOST_CELLS, band=False)
    keys = scene.stands.segment_keys
    found = data.buckets(page.key, scene.stands, page.window, how, tuple(keys[one.segment] for one in shown))
    names, normal = scene.stands.segments, {one.segment: one.normal for one in scene.shares}
    cells = [
        charts.Cell(
            row=names[one.segment_id],
            start=to_ms(max(one.start, page.window.start)),
            end=to_ms(min(one.start + how.step, page.window.end)),
            excess=max(0.0, one.share - normal[names[one.segment_id]] - _chance(one.n, normal[names[one.segment_id]])),
            share=one.share,
            n=one.n,
            when=page.clock.short(one.start, page.now),
        )
        for one in found
    ]
    rows = [
        charts.Row(
            one.segment,
            "no image" if one.share is None else percent(one.share) if one.n >= FEW else f"n = {one.n}",
            percent(one.normal),
            _alarming(one),
        )
        for one in shown
    ]
    more = len(scene.shares) - len(shown)
    rest = f"; {more} more are normal or less so" if more > 0 else ""
    since = f"now = since {page.clock.short(scene.since, page.now)}"
    st.html(markup.heading("Segments, beyond their own normal", f"{since}{rest}"))
    spec = charts.strip(
        cells, rows, page.window, page.palette, onset=_onset_ms(scene, page.window), utc=page.clock.is_utc
    )
    st.vega_lite_chart(spec, width="stretch", theme=None, key="strip")


def _bars(scene: Scene) -> None:
    rows = [
        (one.segment, one.share, one.normal, f"{percent(one.share)}, normally {percent(one.normal)}", _alarming(one))
        for one in scene.shares[:3]
        if one.share is not None
    ]
    if rows:
        st.html(markup.heading("Segments", "the mark is what is normal"))
        st.html(markup.bars(rows))


def _pictures(scene: Scene) -> None:
    page, stands = scene.page, scene.stands
    keys = tuple(stands.segment_keys[scene.segment] for _ in (0,)) if scene.segment else tuple(stands.segments)
    of = scene.segment or "all segments"
    odd = data.pictures(
        page.key, stands.deployment.id, scene.since, scene.until, keys, True, "strangest", 10 * _PICTURES
    )
    usual = data.pictures(
        page.key, stands.deployment.id, scene.since - _PAST, scene.since, keys, False, "newest", _PICTURES
    )
    since = page.clock.short(scene.since, page.now)
    st.html(markup.heading(f"Unusual since {since}", of))
    if odd:
        st.html(markup.pictures([_thumb(scene, one) for one in _typical(odd)]))
    else:
        st.html(markup.note("No flagged image of this time is kept."))
    st.html(markup.heading("Normal before", of))
    if usual:
        st.html(markup.pictures([_thumb(scene, one) for one in usual]))
    else:
        st.html(markup.note("No normal image of the week before is kept."))


def _typical(found: Sequence[Picture]) -> list[Picture]:
    """Four from the strangest to the least strange: the ten worst would be the odd ones of the odd."""
    at = np.linspace(0, len(found) - 1, min(_PICTURES, len(found))).round().astype(int)
    return [found[i] for i in at]


def _thumb(scene: Scene, one: Picture) -> markup.Thumb:
    reference = data.reference(scene.page.key, scene.stands.deployment.reference_id)
    rare = rarity(at_least(reference, one.score), reference.n)
    name = reference.classes[one.class_index] if one.class_index < len(reference.classes) else "?"
    return markup.Thumb(
        one.thumbnail, rare if one.is_ood else name, f"{'as ' + name + ', ' if one.is_ood else ''}"
        f"{scene.page.clock.short(one.event_time, scene.page.now)}", one.is_ood and scene.is_wrong,
    )  # fmt: skip


def _histogram(scene: Scene) -> None:
    page, stands = scene.page, scene.stands
    key = POOLED if scene.segment is None else stands.segment_keys[scene.segment]
    level = data.coarse(scene.since, scene.until)
    found = data.sums(
        page.key, stands.deployment.id, stands.deployment.reference_id, key, scene.since, scene.until, level
    )
    fine = data.fine_histogram(found)
    n = sum(sums.n for _, sums in found)
    since = page.clock.short(scene.since, page.now)
    st.html(markup.heading(f"Scores since {since}, {scene.segment or 'all traffic'}", f"n {n:,}; grey = reference"))
    if fine is None or n < FEW:
        st.html(markup.note(f"n = {n}, too few to draw."))
        return
    reference = data.reference(page.key, stands.deployment.reference_id)
    drawn = shape(reference, fine)
    spec = charts.histogram(
        drawn.edges, drawn.now, drawn.normal, reference.threshold, page.palette, what=f"Scores of {n:,} images"
    )
    st.vega_lite_chart(spec, width="stretch", theme=None, key="scores")


def _signals(scene: Scene) -> None:
    page, stands = scene.page, scene.stands
    states: dict[str, str] = {}
    for line in stands.verdicts:
        signal, _ = facts.signal_of(line.stream)
        if facts.rank(line.state) >= facts.rank(states.get(signal, "")) or signal not in states:
            states[signal] = line.state
    series = _sparks(page, stands)
    st.html(
        markup.signals(
            (
                (
                    name,
                    wording.signal_word(signal, states.get(signal, "")),
                    facts.rank(states.get(signal, "")) > 0,
                    series.get(signal, ()),
                )
                for signal, name in facts.SIGNALS.items()
                if signal != "silence" or signal in states
            ),
            page.palette.soft,
        )
    )


def _sparks(page: Page, stands: Standing) -> Mapping[str, list[float | None]]:
    """A day of each signal in hours, from the sums of all traffic."""
    end = live(MINUTE, page.now).end
    start = end - timedelta(hours=24)
    found = data.sums(page.key, stands.deployment.id, stands.deployment.reference_id, POOLED, start, end, 60)
    reference = data.reference(page.key, stands.deployment.reference_id)
    usual = np.diff(np.concatenate([[0.0], np.searchsorted(reference.scores, reference.edges, "right"), [reference.n]]))
    usual = usual / reference.n
    classes = reference.class_counts / max(reference.class_counts.sum(), 1)
    series: dict[str, list[float | None]] = {name: [] for name in facts.SIGNALS}
    for at, sums in found:
        if at.minute or not sums.n:
            continue  # the hour that runs, still in finer ticks
        series["fraction"].append(sums.flags / sums.n)
        series["histogram"].append(float(np.abs(sums.histogram / sums.n - usual).sum() / 2))
        series["low"].append(float(sums.histogram[:4].sum() / sums.n))
        series["classes"].append(float(np.abs(sums.class_counts / sums.n - classes).sum() / 2))
        if sums.z_sum is not None and sums.z_n:
            series["coverage"].append(float(np.linalg.norm(sums.z_sum / sums.z_n - reference.projected_mean)))
        series["rate"].append(float(sums.n))
    return series


def _onset_ms(scene: Scene, window: Window) -> int | None:
    onset = scene.verdict.onset
    return None if onset is None or not window.start < onset < window.end else to_ms(onset)


def _alarming(one: Excess) -> bool:
    return one.n >= FEW and (one.share or 0.0) >= board().levels[0]


def _ticks(minutes: int) -> str:
    if minutes < 60:
        return "minute" if minutes == 1 else f"{minutes} min"
    return "hour" if minutes == 60 else f"{minutes // 60} h" if minutes < 1440 else f"{minutes // 1440} d"


def _chance(n: int, p: float) -> float:
    """What chance alone may add to a cell of n images."""
    return 2.0 * float(np.sqrt(p * (1 - p) / max(n, 1)))
