"""Pictures of a window side by side: what represents its change, the reference's nearest, strangest and normal ones."""

from dataclasses import replace

import streamlit as st

from dashboard import data, looks, markup
from dashboard.markup import Thumb
from dashboard.normal import at_least
from dashboard.scene import Scene
from dashboard.times import percent, rarity
from dashboard.windows import Window
from pipeline.records import ReferenceImage
from pipeline.shift.representatives import FEWEST, Representative
from pipeline.storage.sample_pages import Picture

_MOST = 6
_CERTAIN = 20  # times as often: beyond, the number says nothing


def represent(scene: Scene, window: Window) -> None:
    """Four rows of pictures."""
    page, stands = scene.page, scene.stands
    key, deployment, reference_id = page.key, stands.deployment.id, stands.deployment.reference_id
    segment = page.view.segment
    found, n = data.representing(key, deployment, reference_id, *window, segment, _MOST)
    since = page.clock.short(window.start, page.now)
    st.html(
        markup.heading(
            f"What represents the change since {since}, {segment or 'all segments'}",
            f"of {n:,} random samples, kinds at least twice as frequent as in the reference; below each, the"
            " reference's nearest",
        )
    )
    kept = data.images_of_reference(key, reference_id)
    if found:
        st.html(markup.pairs([(_telling(scene, *one), _nearest(scene, kept[one[1].nearest])) for one in found]))
    else:
        st.html(markup.note(_nothing(n, len(kept))))
    segments = (stands.segment_keys[segment],) if segment else tuple(stands.segments)
    strangest = data.pictures(key, deployment, *window, segments, None, "strangest", _MOST)
    newest = data.pictures(key, deployment, *window, segments, False, "newest", 10 * _MOST)
    normal = [one for one in newest if one.kind == "random"][:_MOST]
    for title, rest, pictures in (
        ("Strangest", "by score", strangest),
        ("Normal", "random ones that are not flagged", normal),
    ):
        st.html(markup.heading(title, rest))
        thumbs = [replace(looks.thumb(scene, one), odd=False) for one in pictures]
        st.html(markup.pictures(thumbs, across=_MOST) if thumbs else markup.note("No such sample is kept."))


def _telling(scene: Scene, one: Picture, telling: Representative) -> Thumb:
    times = telling.likelihood / (1 - telling.likelihood) if telling.likelihood < 1 else _CERTAIN
    title = f"over {_CERTAIN} × as frequent" if times >= _CERTAIN else f"{times:.0f} × as frequent"
    reference = data.reference(scene.page.key, scene.stands.deployment.reference_id)
    rare = rarity(at_least(reference, one.score), reference.n)
    own = replace(looks.thumb(scene, one), title=title, odd=False)
    stands_for = f"stands for {percent(telling.share)}, score {rare}"
    return replace(own, line=f"{stands_for}; {one.segment}, {scene.page.clock.short(one.event_time, scene.page.now)}")


def _nearest(scene: Scene, one: ReferenceImage) -> Thumb:
    reference = data.reference(scene.page.key, scene.stands.deployment.reference_id)
    rare = rarity(at_least(reference, one.score), reference.n)
    return Thumb(one.thumbnail, "nearest of the reference", f"{one.label or one.file}, score {rare}", False)


def _nothing(n: int, kept: int) -> str:
    if not kept:
        return "The reference keeps no images, so nothing can be held against them; calibrate it anew to keep some."
    if n < FEWEST:
        return f"n = {n}, too few random samples with features to say what is different; choose a longer range."
    return "Nothing is there at least twice as often as in the reference: what its images show is what it knows."
