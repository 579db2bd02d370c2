"""Coverage: what production shows that the reference never had, and what it no longer shows."""

from dataclasses import dataclass
from html import escape
from shlex import quote

import streamlit as st

from dashboard import charts, data, frame, looks, markup
from dashboard.board import board
from dashboard.coverage import FEWEST, Covered, Usual
from dashboard.facts import FEW
from dashboard.frame import Page
from dashboard.markup import Thumb
from dashboard.scene import Scene, scene_of, trust_strip
from dashboard.trends import ticks
from dashboard.windows import Window, aligned, cut, to_ms
from pipeline.records import ReferenceImage
from pipeline.shift.folding import POOLED
from pipeline.storage.support_series import SupportSum

_PICTURES = 8
_BELOW = -4.0  # z: what the report names
_KEPT = 2 / 3  # of its normal coverage: a label that keeps more is not called gone
_FEWEST_OF_LABEL = 20  # images of the reference
_LISTED = 12


def show() -> None:
    """The page."""
    frame.show(draw, leaves_out=False)


def draw(page: Page) -> None:
    """What is new, and what is gone, since the onset; where nothing is wrong, in the last hour; or in the window."""
    scene = scene_of(page, board())
    trust_strip(page, scene.trusted)
    found = _found(scene)
    st.html(markup.title(_headline(scene, found), _said(scene, found)))
    if POOLED not in found.totals:
        counted = data.totals(page.key, scene.stands.deployment.id, *found.window)
        said = ("A worker stores it where the reference keeps images, as oodwatch calibrate makes it.",)
        if POOLED in counted:
            st.html(markup.empty("The support of no image is known in this window.", said))
        else:
            st.html(markup.empty("No image was scored in this window.", ("Choose a longer range.",)))
        _command(page, found.window)
        return
    with st.container(key="body"):
        left, right = st.columns([8, 4])
        with left:
            _line(scene, found.usual)
            _segments(scene, found)
        with right:
            _new(scene, found)
            _gone(scene, found)
            _command(page, found.window)


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read."""

    window: Window
    totals: dict[int, SupportSum]
    usual: Usual | None
    covered: Covered | None
    samples: int
    images: list[ReferenceImage]

    def new(self) -> list[int]:
        """Segments whose images the reference does not have, the least supported first."""
        if self.usual is None:
            return []
        z = {key: self.usual.z(one.mean, one.n) for key, one in self.totals.items() if one.n >= FEW}
        return sorted((key for key in z if z[key] < _BELOW), key=lambda key: self.totals[key].mean)

    def gone(self) -> list[str]:
        """Labels of which most is no longer covered."""
        if self.covered is None:
            return []
        labels = [one.label for one in self.images]
        lost = []
        for label in sorted({one for one in labels if one is not None}):
            rows = [at for at, one in enumerate(labels) if one == label]
            now, normally = (float(of[rows].mean()) for of in (self.covered.now, self.covered.normally))
            if len(rows) >= _FEWEST_OF_LABEL and now < _KEPT * normally:
                lost.append(label)
        return lost


def _found(scene: Scene) -> _Found:
    page, deployment = scene.page, scene.stands.deployment
    window = page.window if page.view.window else Window(scene.since, scene.until)
    keys = page.key, deployment.id, deployment.reference_id
    covered, samples = data.coverage_of_reference(*keys, *window, page.view.segment)
    return _Found(
        window,
        data.support_totals(*keys, window),
        data.usual_support(page.key, deployment.reference_id),
        covered,
        samples,
        data.images_of_reference(page.key, deployment.reference_id),
    )


def _headline(scene: Scene, found: _Found) -> str:
    if POOLED not in found.totals:
        return "Coverage"
    if (n := found.totals[POOLED].n) < FEW:
        return f"n = {n}, too few to say what is new and what is gone"
    new = [scene.stands.segments[one] for one in found.new() if one in scene.stands.segments]
    gone = found.gone()
    told = []
    if new:
        more = f" and {len(new) - 1} more" if len(new) > 1 else ""
        told.append(f"new images on {new[0]}{more}")
    elif found.new():
        told.append("new images")
    if gone:
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        told.append(f"hardly any “{gone[0]}”{more} left")
    said = "; ".join(told) or "nothing new and nothing gone, as far as these images can tell"
    return said[0].upper() + said[1:]


def _said(scene: Scene, found: _Found) -> str:
    page = scene.page
    when = page.clock.span(*found.window)
    if POOLED not in found.totals:
        return when
    pooled = found.totals[POOLED]
    normal = "" if found.usual is None else f", normally {found.usual.mean:.2f}"
    return f"{when}; P-precision of all traffic {pooled.mean:.2f}{normal} (n {pooled.n:,})"


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
    for place, margins in (("wide", charts.MARGINS), ("phone", (38, 0))):
        with st.container(key=place):
            spec = charts.support(
                points,
                page.window,
                page.palette,
                name=name,
                of_all="all traffic" if scene.segment else None,
                normal=normal,
                utc=page.clock.is_utc,
                height=240 if place == "wide" else 160,
                margins=margins,
            )
            frame.chart(spec, f"support-{place}")


def _segments(scene: Scene, found: _Found) -> None:
    names, usual = scene.stands.segments, found.usual
    listed = sorted((one for one in found.totals.items() if one[0] in names), key=lambda item: item[1].mean)
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
    since = f"since {scene.page.clock.short(found.window.start, scene.page.now)}"
    st.html(markup.heading("By segment", f"{since}; least supported first{more}"))
    st.html(markup.table(("segment", "images", "P-precision", "z"), rows, numbers=(1, 3)))
    st.html(
        markup.note(
            f"Below z = {_BELOW:g} a segment is called new. z takes images for independent, and neighbours in time are"
            " not: it ranks, and raises nothing. The alarm is the signal called coverage."
        )
    )


def _z(z: float) -> str:
    text = f"{z:.1f}".replace("-", "−")
    return f'<span class="alarm">{text}</span>' if z < _BELOW else text


def _new(scene: Scene, found: _Found) -> None:
    page, stands = scene.page, scene.stands
    keys = (stands.segment_keys[scene.segment],) if scene.segment else tuple(stands.segments)
    shown = data.pictures(page.key, stands.deployment.id, *found.window, keys, None, "least supported", _PICTURES)
    st.html(markup.heading("Least supported", f"samples of {scene.segment or 'all segments'}; 1 is like the reference"))
    if not shown:
        st.html(markup.note("No sample with a known support is kept of this time."))
        return
    thumbs = [Thumb(one.thumbnail, f"support {one.support:.2f}", looks.thumb(scene, one).line, False) for one in shown]
    st.html(markup.pictures(thumbs))


def _gone(scene: Scene, found: _Found) -> None:
    covered, images = found.covered, found.images
    where = scene.page.view.segment or "all segments"
    st.html(markup.heading("Least covered", f"the reference's images, by {found.samples:,} random samples of {where}"))
    if covered is None:
        st.html(
            markup.note(
                f"Too few images to say what is gone: {found.samples} samples with features, and {len(images)} images"
                f" of the reference, of which it takes {FEWEST}."
            )
        )
        return
    thumbs = [
        Thumb(
            images[at].thumbnail,
            images[at].label or images[at].file,
            f"covered {covered.now[at]:.2f}, normally {covered.normally[at]:.2f}",
            False,
        )
        for at in covered.least()[:_PICTURES]
        if covered.now[at] < covered.normally[at]
    ]
    if thumbs:
        st.html(markup.pictures(thumbs))
    else:
        st.html(markup.note("Every image of the reference is covered as well as by the reference itself."))


def _command(page: Page, window: Window) -> None:
    start, end = (f"{at:%Y-%m-%dT%H:%MZ}" for at in window)
    segment = "" if page.view.segment is None else f" --segment {quote(page.view.segment)}"
    st.html(markup.heading("The full report", "P-recall, lost classes, and what both are without a change"))
    st.code(
        f"oodwatch coverage --deployment {quote(page.name)} --from {start} --to {end}{segment} --html coverage.html",
        language=None,
        wrap_lines=True,
    )
