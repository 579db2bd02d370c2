"""Coverage: what production shows that the reference never had, and what it no longer shows."""

from html import escape
from shlex import quote

import streamlit as st

from dashboard import charts, data, frame, looks, markup
from dashboard.board import board
from dashboard.coverage import FEWEST, Usual
from dashboard.facts import FEW
from dashboard.frame import Page
from dashboard.markup import Thumb
from dashboard.scene import Scene, scene_of, trust_strip
from dashboard.trends import ticks
from dashboard.windows import aligned, cut, to_ms
from pipeline.shift.folding import POOLED
from pipeline.storage.support_series import SupportSum

_PICTURES = 12
_BELOW = -4.0  # z: what the report names
_LISTED = 12


def show() -> None:
    """The page."""
    frame.show(draw)


def draw(page: Page) -> None:
    """What is new on the left, what is gone on the right."""
    scene = scene_of(page, board())
    trust_strip(page, scene.trusted)
    deployment = scene.stands.deployment
    totals = data.support_totals(page.key, deployment.id, deployment.reference_id, page.window)
    usual = data.usual_support(page.key, deployment.reference_id)
    st.html(markup.title(_headline(scene, totals, usual), _said(scene, totals, usual)))
    if POOLED not in totals:
        st.html(
            markup.empty(
                "The support of no image is known in this window.",
                ("A worker stores it where the reference keeps images, as oodwatch calibrate makes it.",),
            )
        )
        _command(page)
        return
    with st.container(key="body"):
        left, right = st.columns([8, 4])
        with left:
            _line(scene, usual)
            _segments(scene, totals, usual)
        with right:
            _new(scene)
            _gone(scene)
            _command(page)


def _headline(scene: Scene, totals: dict[int, SupportSum], usual: Usual | None) -> str:
    low = [] if usual is None else _below(totals, usual)
    if not low:
        return "Nothing new, by the support of every image" if totals and usual is not None else "Coverage"
    names = [scene.stands.segments[one] for one in low if one in scene.stands.segments] or ["all traffic"]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}: images that the reference does not have"


def _below(totals: dict[int, SupportSum], usual: Usual) -> list[int]:
    """Segments, the least supported first."""
    found = {key: usual.z(one.mean, one.n) for key, one in totals.items() if one.n >= FEW}
    return sorted((key for key, z in found.items() if z < _BELOW), key=lambda key: totals[key].mean)


def _said(scene: Scene, totals: dict[int, SupportSum], usual: Usual | None) -> str:
    if POOLED not in totals:
        return "what the reference supports, and what production no longer covers"
    pooled = totals[POOLED]
    normal = "" if usual is None else f", normally {usual.mean:.2f}"
    segment = scene.page.view.segment
    where = "all traffic" if segment is None else f"all traffic, not only {segment}"
    return f"P-precision {pooled.mean:.2f}{normal} (n {pooled.n:,}, {where})"


def _line(scene: Scene, usual: Usual | None) -> None:
    page, stands = scene.page, scene.stands
    key = POOLED if scene.segment is None else stands.segment_keys[scene.segment]
    counted = data.totals(page.key, stands.deployment.id, *page.window).get(key)
    rate = 0.0 if counted is None else counted.n / (page.window.length.total_seconds() / 60)
    how = cut(page.window, stands.oldest, band=False, rate=rate)
    found = data.supports(
        page.key, stands.deployment.id, stands.deployment.reference_id, page.window, how, tuple({key, POOLED})
    )
    points, at = [], aligned(page.window, how.width).start
    while at < page.window.end:
        own, pooled = found.get((key, at)), found.get((POOLED, at))
        points.append(
            charts.SupportPoint(
                start=to_ms(at),
                end=to_ms(at + how.step),
                mean=None if own is None else own.mean,
                of_all=None if pooled is None else pooled.mean,
                n=0 if own is None else own.n,
                hollow=own is not None and own.n < FEW,
                when=page.clock.short(at, page.now),
            )
        )
        at += how.step
    sizes = sorted(one.n for one in points if one.n)
    wide = 0.0 if usual is None or not sizes else 1.96 * usual.deviation(sizes[len(sizes) // 2])
    normal = None if usual is None else (max(0.0, usual.mean - wide), min(1.0, usual.mean + wide))
    name = scene.segment or "all traffic"
    st.html(
        markup.heading(
            f"P-precision, {name}", f"mean support by the reference; one step = {ticks(how.width)}; {page.clock.name}"
        )
    )
    spec = charts.support(
        points,
        page.window,
        page.palette,
        name=name,
        of_all="all traffic" if scene.segment else None,
        normal=normal,
        utc=page.clock.is_utc,
    )
    frame.chart(spec, "support")


def _segments(scene: Scene, totals: dict[int, SupportSum], usual: Usual | None) -> None:
    names = scene.stands.segments
    listed = sorted((one for one in totals.items() if one[0] in names), key=lambda item: item[1].mean)
    rows = [
        (
            escape(names[key]),
            f"{one.n:,}",
            markup.bar(one.mean),
            "" if usual is None or one.n < FEW else _z(usual.z(one.mean, one.n)),
        )
        for key, one in listed[:_LISTED]
    ]
    more = f"; {len(listed) - _LISTED} better ones are left out" if len(listed) > _LISTED else ""
    st.html(markup.heading("By segment", f"least supported first; below z = {_BELOW:g} is named{more}"))
    st.html(markup.table(("segment", "images", "P-precision", "z"), rows, numbers=(1, 3)))
    st.html(
        markup.note(
            "z takes images for independent, and neighbours in time are not: it ranks, and raises nothing. The alarm is"
            " the signal called coverage."
        )
    )


def _z(z: float) -> str:
    text = f"{z:.1f}".replace("-", "−")
    return f'<span class="alarm">{text}</span>' if z < _BELOW else text


def _new(scene: Scene) -> None:
    page, stands = scene.page, scene.stands
    keys = (stands.segment_keys[scene.segment],) if scene.segment else tuple(stands.segments)
    found = data.pictures(page.key, stands.deployment.id, *page.window, keys, None, "least supported", _PICTURES)
    st.html(markup.heading("Least supported", f"samples of {scene.segment or 'all segments'}; 1 is like the reference"))
    if not found:
        st.html(markup.note("No sample with a known support is kept of this window."))
        return
    thumbs = [Thumb(one.thumbnail, f"support {one.support:.2f}", looks.thumb(scene, one).line, False) for one in found]
    st.html(markup.pictures(thumbs))


def _gone(scene: Scene) -> None:
    page, stands = scene.page, scene.stands
    deployment = stands.deployment
    segment = page.view.segment
    found, n = data.coverage_of_reference(page.key, deployment.id, deployment.reference_id, *page.window, segment)
    st.html(markup.heading("Least covered", f"images of the reference, by {n:,} random samples"))
    if found is None:
        st.html(
            markup.note(
                f"Too few images to say what is gone: {n} samples with features, and at least {FEWEST} images of the"
                " reference are needed."
            )
        )
        return
    images = data.images_of_reference(page.key, deployment.reference_id)
    thumbs = [
        Thumb(
            images[at].thumbnail,
            images[at].label or images[at].file,
            f"covered {found.now[at]:.2f}, normally {found.normally[at]:.2f}",
            False,
        )
        for at in found.least()[:_PICTURES]
        if found.now[at] < found.normally[at]
    ]
    if thumbs:
        st.html(markup.pictures(thumbs))
    else:
        st.html(markup.note("Every image of the reference is covered as well as by the reference itself."))


def _command(page: Page) -> None:
    start, end = (f"{at:%Y-%m-%dT%H:%MZ}" for at in page.window)
    segment = "" if page.view.segment is None else f" --segment {quote(page.view.segment)}"
    st.html(markup.heading("The full report", "P-recall, lost classes, and what both are without a change"))
    st.code(
        f"oodwatch coverage --deployment {quote(page.name)} --from {start} --to {end}{segment} --html coverage.html",
        language=None,
        wrap_lines=True,
    )
