"""Who finds regions: what a person may ask, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pipeline.errors import UsageError
from pipeline.localization.regions import Box, Mask
from pipeline.records import Float32s, Pixels


class Point(NamedTuple):
    """A click, in pixels from the top left."""

    x: float
    y: float
    is_inside: bool = True  # False: the region lies elsewhere


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What is segmented."""

    pixels: Pixels  # (H, W, 3) uint8
    key: str  # the same for the same pixels: a hash of the file that they came from


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """Everything here says something about one and the same region."""

    points: tuple[Point, ...] = ()
    box: Box | None = None
    drawn: Mask | None = None  # (H, W), roughly the region
    previous: Float32s | None = None  # logits of the candidate that this refines
    wants_one: bool = False  # one candidate also where the prompt is ambiguous

    @property
    def is_ambiguous(self) -> bool:
        """Whether it may mean a thing, its part or what it is part of: a lone click does."""
        return len(self.points) == 1 and self.box is None and self.drawn is None and self.previous is None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One region that a segmenter proposes."""

    mask: Mask  # (H, W) of the picture; may be empty
    score: float  # the segmenter's own opinion of the mask, about 0..1; higher is better
    stability: float | None = None  # overlap of the mask under a stricter and under a laxer cut, 0..1
    logits: Float32s | None = None  # (h, w), low resolution: what a refinement starts from


class Segmenter(Protocol):
    """Finds regions in pictures."""

    @property
    def name(self) -> str:
        """What people and stored rows call it; it changes when its answers may."""

    def segment(self, picture: Picture, prompt: Prompt) -> list[Candidate]:
        """Three candidates for an ambiguous prompt unless one is wanted, else one."""

    def everything(self, picture: Picture) -> list[Candidate]:
        """Every region that it finds by itself, the best first."""


def refine(segmenter: Segmenter, picture: Picture, prompt: Prompt, choice: int) -> list[Candidate]:
    """Clicks one after another: of the first one's candidates a person chose one, each further click refines it.

    Args:
        choice: index of the candidate.

    Raises UsageError where there is no such candidate or no further click.
    """
    if len(prompt.points) < 2:
        raise UsageError("a refinement needs a further point: give the first --point again, and then others")
    first = Prompt(prompt.points[:1], prompt.box, prompt.drawn)
    candidates = segmenter.segment(picture, first)
    if not 0 <= choice < len(candidates):
        raise UsageError(f"--refine {choice + 1}: the first point has {len(candidates)} masks, counted from 1")
    chosen = candidates[choice]
    for n in range(2, len(prompt.points) + 1):
        drawn = None if chosen.logits is not None else chosen.mask
        step = Prompt(prompt.points[:n], prompt.box, drawn, chosen.logits, wants_one=True)
        (chosen,) = segmenter.segment(picture, step)
    return [chosen]


def check_prompt(prompt: Prompt, height: int, width: int) -> None:
    """Raises UsageError for what lies outside an image of that size, is reversed, or says nothing."""
    size = f"the image of {width} x {height} pixels"
    for x, y, _ in prompt.points:
        if not (0 <= x < width and 0 <= y < height):
            swapped = "; it would lie inside with x and y swapped" if 0 <= y < width and 0 <= x < height else ""
            raise UsageError(f"point {x:g},{y:g} lies outside {size}{swapped}; count from 0 at the top left")
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        named = ",".join(f"{value:g}" for value in prompt.box)
        if x1 <= x0 or y1 <= y0:
            raise UsageError(f"box {named} is reversed or empty; write left,top,right,bottom")
        if min(x0, y0) < 0 or x1 > width or y1 > height:
            raise UsageError(f"box {named} reaches outside {size}; write left,top,right,bottom in pixels")
    if prompt.drawn is not None:
        if prompt.drawn.shape != (height, width):
            high, wide = prompt.drawn.shape
            raise UsageError(f"the mask has {wide} x {high} pixels, unlike {size}; draw it on the image itself")
        if not prompt.drawn.any():
            raise UsageError("the mask is empty: no pixel of it is bright; draw the region in white on black")
    if prompt.box is None and prompt.drawn is None and not any(point.is_inside for point in prompt.points):
        raise UsageError("points say only what the region is not; add one inside of it, a box or a mask")


def scaled(prompt: Prompt, scale_x: float, scale_y: float, drawn: Mask | None) -> Prompt:
    """The same prompt on the picture at another size."""
    box = prompt.box
    return Prompt(
        tuple(Point(x * scale_x, y * scale_y, is_inside) for x, y, is_inside in prompt.points),
        None if box is None else Box(box.x0 * scale_x, box.y0 * scale_y, box.x1 * scale_x, box.y1 * scale_y),
        drawn,
        prompt.previous,
        prompt.wants_one,
    )


def best(candidates: Sequence[Candidate]) -> int:
    """The index of the highest score."""
    return max(range(len(candidates)), key=lambda i: candidates[i].score)
