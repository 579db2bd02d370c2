"""Asks the process that has the model loaded (`oodwatch explain --serve`); these pages load none."""

import base64
from typing import Any, NamedTuple

import httpx
import streamlit as st

from dashboard.access import may_see_images
from pipeline.errors import EnvironmentFault, RefusedError, UsageError

_LOOK_S = 2.0
_THINK_S = 300.0  # a search for all regions by Segment Anything on a busy CPU
_KEPT_S = 300  # a stored sample never changes, but somebody may want it forgotten
_START = "oodwatch explain --serve --model MODEL --sam SAM"


class Explainer(NamedTuple):
    """Who answers."""

    segmenter: str
    is_sam: bool
    model: str


class Original(NamedTuple):
    """What can be clicked on."""

    picture: str  # original, thumbnail
    width: int  # of the image itself, in whose pixels points are
    height: int
    png: bytes  # at most 1,024 pixels a side


@st.cache_data(ttl=5, show_spinner=False)
def explainer(url: str) -> Explainer | None:
    """Who answers there; None: nobody."""
    try:
        answer = httpx.get(f"{url}/about", timeout=_LOOK_S, trust_env=False)
        answer.raise_for_status()
        return Explainer(**answer.json())
    except (httpx.HTTPError, ValueError, TypeError):
        return None


def original(url: str, model: str, sample: int) -> Original:
    """The picture of a sample. Raises OodwatchError, also for who may see none."""
    _check()
    return _original(url, model, sample)


@st.cache_data(ttl=_KEPT_S, max_entries=64, show_spinner=False)
def _original(url: str, model: str, sample: int) -> Original:
    found = _ask(url, "picture", {"sample": sample})
    return Original(found["picture"], found["width"], found["height"], base64.b64decode(found["png"]))


def explanation(
    url: str,
    segmenter: str,
    sample: int,
    points: tuple[tuple[float, float, int], ...],
    box: tuple[float, float, float, float] | None,
    refine: int | None,
) -> dict[str, Any]:
    """As `oodwatch explain --json`, with pictures in `overlays`; of everything where nothing is pointed at.

    Raises OodwatchError, also for who may see no picture.
    """
    _check()
    return _explanation(url, segmenter, sample, points, box, refine)


def _check() -> None:
    if not may_see_images():
        raise RefusedError("pictures are hidden for your role, and so is where in them it is strange")


@st.cache_data(ttl=_KEPT_S, max_entries=128, show_spinner="Filling regions, and scoring the image without them …")
def _explanation(
    url: str,
    segmenter: str,
    sample: int,
    points: tuple[tuple[float, float, int], ...],
    box: tuple[float, float, float, float] | None,
    refine: int | None,
) -> dict[str, Any]:
    asked = {"sample": sample, "points": points, "box": box, "refine": refine}
    found = _ask(url, "explain", {name: value for name, value in asked.items() if value is not None})
    return {**found, "overlays": [base64.b64decode(one) for one in found["overlays"]]}


def _ask(url: str, what: str, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = httpx.post(
            f"{url}/{what}", json=asked, timeout=httpx.Timeout(_THINK_S, connect=_LOOK_S), trust_env=False
        )
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise EnvironmentFault(f"the explaining process does not answer; start it again: {_START}") from error
    if answer.status_code != 200:
        raise UsageError(str(found.get("error", "it could not be explained")))
    return found
