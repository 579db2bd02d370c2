"""Many images at once, each with a box to choose it; the chosen ones go to whoever labels them."""

import re
from collections.abc import Callable, Sequence

import streamlit as st

from dashboard import data, looks, markup, reviewing
from dashboard.access import may_see_images
from dashboard.board import board
from dashboard.markup import Thumb
from dashboard.scene import Scene
from pipeline.reports.labelling import choose, labelling_zip
from pipeline.storage.reviews import ReviewLine
from pipeline.storage.sample_pages import Picture

_MOST = 500  # images in one zip


def grid(scene: Scene, found: Sequence[Picture], near: Picture, said: dict[int, ReviewLine]) -> None:
    """The images by their numbers; under each a box, where images may be taken away."""
    may_choose = may_see_images()
    if may_choose:
        _bar(scene, [one.id for one in found])
    with st.container(key="cards"):
        for number, one in enumerate(found, 1):
            with st.container(key=f"card-{number}", gap=None):
                thumb = looks.thumb(scene, one)
                title = thumb.title if may_choose else f"{number}. {thumb.title}"
                mark = reviewing.mark(said.get(one.id))
                st.html(
                    markup.card(
                        Thumb(thumb.picture, title, f"{thumb.line}, {one.segment}", False, mark), near=one is near
                    )
                )
                if may_choose:
                    _box(number, one.id)


def _bar(scene: Scene, shown: Sequence[int]) -> None:
    chosen = _chosen()
    with st.container(key="choose", horizontal=True, vertical_alignment="center", gap="small"):
        st.button("Choose all shown", key="choose-all", on_click=_set_anew, args=((*chosen, *shown),))
        if not chosen:
            return
        st.button("None", key="choose-none", on_click=_set_anew, args=((),))
        from_log = board().originals is not None and st.toggle("originals, where the log has them", key="from-log")
        st.download_button(
            f"Download {len(chosen)}{' with originals' if from_log else ''} for labelling",
            data=_zip_of(scene, chosen, from_log=from_log),
            file_name=f"samples-{re.sub(r'[^A-Za-z0-9_-]+', '_', scene.page.name)}.zip",
            mime="application/zip",
            on_click="ignore",
        )


def _zip_of(scene: Scene, chosen: Sequence[int], *, from_log: bool) -> Callable[[], bytes]:
    """Made when somebody wants it."""
    stands, log = scene.stands, board().originals
    classes = data.reference(scene.page.key, stands.deployment.reference_id).classes

    def make() -> bytes:
        samples, said = data.samples_by_key(stands.deployment.id, chosen)
        originals = log.read_all(chosen) if log is not None and from_log else None
        return labelling_zip(choose(samples, classes, said, originals), classes)

    return make


def _box(number: int, sample: int) -> None:
    turn = _turn()
    key = f"choose-{turn}-{sample}"
    st.checkbox(f"No. {number}", sample in _chosen(), key=key, on_change=_toggle, args=(sample, key, turn))


def _toggle(sample: int, key: str, turn: int) -> None:
    """Where a run was cut short, a browser answers once more for boxes that others have replaced."""
    if turn == _turn():
        rest = [one for one in _chosen() if one != sample]
        _set([*rest, sample] if st.session_state[key] else rest)


def _chosen() -> tuple[int, ...]:
    """Also of other pages and windows: they add up."""
    return tuple(st.session_state.get("chosen", ()))


def _set(samples: Sequence[int]) -> None:
    st.session_state["chosen"] = tuple(dict.fromkeys(samples))[:_MOST]


def _set_anew(samples: Sequence[int]) -> None:
    """With new boxes in the place of those that say otherwise."""
    _set(samples)
    st.session_state["turn"] = _turn() + 1


def _turn() -> int:
    return int(st.session_state.get("turn", 0))
