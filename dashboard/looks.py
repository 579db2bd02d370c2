"""Panels of what images look like: pictures, their scores, and the signals."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import streamlit as st

from dashboard import charts, data, facts, frame, markup, wording
from dashboard.data import Standing
from dashboard.facts import FEW
from dashboard.frame import Page
from dashboard.normal import at_least, shape
from dashboard.scene import PAST, Scene
from dashboard.times import rarity
from dashboard.windows import MINUTE, Window, coarse, live
from pipeline.shift.folding import POOLED
from pipeline.storage.sample_pages import Picture

_PICTURES = 4


def pictures(scene: Scene) -> None:
    """Four of what was flagged since the onset, over four normal ones of before: the same camera, if there is one."""
    page, stands = scene.page, scene.stands
    keys, of = scene.shown, scene.segment or ("all segments" if not scene.without else scene.whole)
    odd = data.pictures(
        page.key, stands.deployment.id, scene.since, scene.until, keys, True, "strangest", 10 * _PICTURES
    )
    usual = data.pictures(
        page.key, stands.deployment.id, scene.since - PAST, scene.since, keys, False, "newest", _PICTURES
    )
    since = page.clock.short(scene.since, page.now)
    st.html(markup.heading(f"Unusual since {since}", of))
    if odd:
        st.html(markup.pictures([thumb(scene, one) for one in typical(odd)]))
    else:
        st.html(markup.note("No flagged image of this time is kept."))
    if not usual:  # the window begins with the first images
        usual = data.pictures(
            page.key, stands.deployment.id, scene.since, scene.until, keys, False, "newest", _PICTURES
        )
    st.html(markup.heading("Normal" if not usual or usual[0].event_time >= scene.since else "Normal before", of))
    if usual:
        st.html(markup.pictures([thumb(scene, one) for one in usual]))
    else:
        st.html(markup.note("No normal image is kept."))


def histogram(scene: Scene) -> None:
    """Scores since the onset over those of the reference."""
    page, stands = scene.page, scene.stands
    level = coarse(Window(scene.since, scene.until), stands.oldest)
    own = page.key, stands.deployment.id, stands.deployment.reference_id
    found = data.sums(*own, scene.key, scene.since, scene.until, level, scene.without)
    fine = data.fine_histogram(found)
    n = sum(sums.n for _, sums in found)
    since = page.clock.short(scene.since, page.now)
    st.html(markup.heading(f"Scores since {since}, {scene.name}", f"n {n:,}; grey = reference"))
    if fine is None or n < FEW:
        st.html(markup.note(f"n = {n}, too few to draw."))
        return
    reference = data.reference(page.key, stands.deployment.reference_id)
    drawn = shape(reference, fine)
    spec = charts.histogram(
        drawn.edges, drawn.now, drawn.normal, reference.threshold, page.palette, what=f"Scores of {n:,} images"
    )
    frame.chart(spec, "scores")


def signals(scene: Scene) -> None:
    """A word and a day of every signal."""
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


def typical(found: Sequence[Picture]) -> list[Picture]:
    """Four from the strangest to the least strange: the ten worst would be the odd ones of the odd."""
    at = np.linspace(0, len(found) - 1, min(_PICTURES, len(found))).round().astype(int)
    return [found[i] for i in at]


def thumb(scene: Scene, one: Picture) -> markup.Thumb:
    """A picture captioned by how rare its score is; of a normal one, by its class first."""
    reference = data.reference(scene.page.key, scene.stands.deployment.reference_id)
    rare = rarity(at_least(reference, one.score), reference.n)
    name = reference.classes[one.class_index] if one.class_index < len(reference.classes) else "?"
    at = scene.page.clock.short(one.event_time, scene.page.now)
    if one.is_ood:
        return markup.Thumb(one.thumbnail, rare, f"as {name}, {at}", scene.is_wrong)
    return markup.Thumb(one.thumbnail, name, f"{rare}, {at}", False)


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
