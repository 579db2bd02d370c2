"""Where is it strange? A person points at a thing in a sample, and sees how much of its score that accounts for."""

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from dashboard import asking, charts, markup
from dashboard.asking import Explainer, Original
from dashboard.board import board
from dashboard.frame import Page
from dashboard.markup import Thumb
from pipeline.errors import OodwatchError

_INSIDE = ("it is here", "it is not here")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Pointed:
    """What was pointed at in one sample."""

    sample: int
    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    refine: int | None = None  # of the first point's masks, the one that further points refine; from 1
    everything: bool = False  # by itself
    turn: int = 0  # a chart begins anew with each: its own selection would come again


def strange(page: Page, sample: int) -> None:
    """The picture on the left, what was found on the right."""
    url = board().explainer
    st.html(markup.heading("Where is it strange?", "point at a thing: it is filled from around it, and scored again"))
    by = None if url is None else asking.explainer(url)
    if url is None or by is None:
        _how_to_start()
        return
    pointed: Pointed = st.session_state.get("pointed", Pointed(sample))
    if pointed.sample != sample:
        pointed = Pointed(sample)
    try:
        shown = asking.original(url, by.model, sample)
    except OodwatchError as refused:
        st.html(markup.note(str(refused)))
        return
    with st.container(key="pointing"):
        left, right = st.columns([4, 5])
    with left:
        _picture(page, shown, pointed)
    with right:
        _by(by, shown)
        if pointed.points or pointed.box is not None or pointed.everything:
            _answer(url, by, pointed)
        else:
            st.html(markup.note("Click on something in the picture, or draw a box around it."))


def _how_to_start() -> None:
    st.html(
        markup.note("Nobody answers: these pages load no model, a process of its own does. Start it on this machine:")
    )
    st.code("oodwatch explain --serve --model MODEL --sam SAM", language=None, wrap_lines=True)
    st.html(
        markup.heading(
            "",
            "or `oodwatch dashboard --explain`; without --sam, pieces of similar colour stand in for Segment Anything",
        )
    )


def _by(by: Explainer, shown: Original) -> None:
    if not by.is_sam:
        st.html(
            markup.note(
                f"Regions by {by.segmenter}: pieces of similar colour. Start the process with --sam for better ones.",
                doubt=True,
            )
        )
    if shown.picture == "thumbnail":
        st.html(markup.note("The original is not at hand, so its thumbnail is explained; name the log with --source."))


def _picture(page: Page, shown: Original, pointed: Pointed) -> None:
    spec = charts.clickable(
        shown.png, (shown.width, shown.height), page.palette, points=pointed.points, box=pointed.box
    )
    key = f"pick-{pointed.sample}-{pointed.turn}"
    with st.container(key="pick"):
        st.vega_lite_chart(
            spec,
            width="content",
            theme=None,
            key=key,
            on_select=lambda: _pick(key, pointed),
            selection_mode=["click", "drag"],
        )
        st.segmented_control("A click says", _INSIDE, default=_INSIDE[0], key="says", label_visibility="collapsed")
        with st.container(horizontal=True):
            st.button("Find it by itself", on_click=_keep, args=(Pointed(pointed.sample, everything=True),))
            if pointed.points or pointed.box or pointed.everything:
                st.button("Begin anew", on_click=_keep, args=(Pointed(pointed.sample, turn=pointed.turn + 1),))


def _pick(key: str, before: Pointed) -> None:
    """A click adds a point, a box replaces the one before."""
    selected = st.session_state[key].get("selection", {})
    after = replace(before, turn=before.turn + 1, everything=False)
    clicked, dragged = selected.get("click") or [], selected.get("drag") or {}
    if {"left", "top"} <= dragged.keys():
        (x0, x1), (y0, y1) = sorted(dragged["left"]), sorted(dragged["top"])
        _keep(replace(after, box=(x0, y0, x1, y1), refine=None))
    elif clicked:
        says = 0 if st.session_state.get("says") == _INSIDE[1] else 1
        point = (float(clicked[0]["x"]), float(clicked[0]["y"]), says)
        _keep(replace(after, points=(*before.points, point), refine=_refines(before)))


def _refines(before: Pointed) -> int | None:
    """A second click refines the mask that was chosen of the first one's."""
    if before.box is not None or not before.points:
        return None
    return before.refine or int(st.session_state.get("mask") or 1)


def _keep(pointed: Pointed) -> None:
    st.session_state["pointed"] = pointed


def _answer(url: str, by: Explainer, pointed: Pointed) -> None:
    refine = pointed.refine if len(pointed.points) > 1 and pointed.box is None else None
    try:
        found = asking.explanation(url, by.segmenter, pointed.sample, pointed.points, pointed.box, refine)
    except OodwatchError as refused:
        st.html(markup.note(str(refused)))
        return
    usual = "" if found["normal_score"] is None else f", normally {found['normal_score']:.2f}"
    st.html(
        markup.heading(
            f"{found['class']}, score {found['score']:.2f} nats{usual}".replace("-", "−"),
            f"by {found['segmenter']}",
        )
    )
    masks = found["masks"][:_SHOWN]
    if not masks:
        st.html(markup.note(found["verdict"]))
        return
    if pointed.everything and len(found["overlays"]) == 1:
        st.html(markup.pictures([Thumb(found["overlays"][0], "All regions", "the warmer, the more", False)], across=1))
    else:
        st.html(
            markup.pictures(
                [
                    Thumb(picture, f"mask {at}: {_change(mask)}", _told(mask), False)
                    for at, (picture, mask) in enumerate(zip(found["overlays"], masks, strict=False), 1)
                ],
                across=_SHOWN,
            )
        )
    if pointed.everything:
        st.html(
            markup.table(
                ("region", "change of score", ""),
                [(str(at), _change(mask), markup.plain(_told(mask))) for at, mask in enumerate(masks, 1)],
            )
        )
    if len(masks) > 1 and len(pointed.points) == 1 and pointed.box is None:
        st.radio(
            "Which one do you mean? A further click refines it.",
            list(range(1, len(masks) + 1)),
            index=min(range(len(masks)), key=lambda i: masks[i]["score_change"] or 0.0),
            format_func=lambda at: f"mask {at}",
            horizontal=True,
            key="mask",
        )
    st.html(markup.note(found["verdict"]))


def _change(mask: dict[str, Any]) -> str:
    change = mask["score_change"]
    return "nothing to fill" if change is None else f"{change:+.2f} nats".replace("-", "−")


def _told(mask: dict[str, Any]) -> str:
    parts = [f"{mask['share']:.0%} of the image".replace("%", " %")]
    if mask["mask_score"] is not None:
        parts.append(f"mask score {mask['mask_score']:.2f}")
    if mask["class_change"] is not None:
        parts.append("without it " + mask["class_change"][1])
    return ", ".join(parts)
