"""One image, what a person asks about it → its regions, and what filling each does to the score.

image ──► working copy, at most 1,024 pixels a side ──► segmenter: regions
  │                                                        │
  └──► the model's own input ──► each region filled ──► score, one batch ──► Explanation
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from pipeline.errors import RefusedError, UsageError
from pipeline.localization.grounding import Grounded
from pipeline.localization.regions import Box, Mask, Runs, box_of, enlarged, regions_of_their_own, to_runs
from pipeline.localization.segmenter import (
    Candidate,
    Picture,
    Prompt,
    Segmenter,
    check_prompt,
    refine,
    scaled,
)
from pipeline.localization.strangeness import Explained, Predict, Reading, Score, explain_regions, heat
from pipeline.models.preprocessing import Preprocessing
from pipeline.records import Float64s, Pixels

WORKING_SIDE = 1024  # a segmenter sees no more: Segment Anything's own input has this side


class Words(Protocol):
    """Finds what words name."""

    def find(self, pixels: Pixels, text: str) -> list[Grounded]:
        """Boxes, the most confident first."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What a person asks; nothing at all: which region of the whole picture explains it?"""

    prompt: Prompt | None = None
    text: str | None = None
    choice: int | None = None  # of the first point's masks, the one that further points refine; from 0

    @property
    def is_of_everything(self) -> bool:
        """Whether nothing in particular is asked about."""
        return self.prompt is None and self.text is None


@dataclass(frozen=True, slots=True)
class Region:
    """One region of an image and what filling it does; energies in nats."""

    source: str  # point, box, mask, refined, drawn (as given), text, auto
    runs: Runs  # of the image's own size
    box: Box | None  # None: the mask is empty
    share: float  # of the image's area
    mask_score: float | None  # the segmenter's opinion, higher is better; None for a drawn mask
    stability: float | None  # None where the mask vanishes under the laxer cut
    filled: Reading | None  # None: nothing to fill, or nothing around it to fill it from


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What there is to say about one image."""

    width: int
    height: int
    segmenter: str
    whole: Reading
    regions: tuple[Region, ...]  # of the whole picture: the one that explains most first; else as they were found
    explaining: int | None  # the region that explains the image
    working: Pixels  # the copy that was segmented,
    masks: tuple[Mask, ...]  # its regions,
    warmth: Float64s  # and at each of its pixels what the best region around it accounts for, nats

    def change(self, index: int) -> float | None:
        """Change of the score by filling a region, nats."""
        filled = self.regions[index].filled
        return None if filled is None else filled.score - self.whole.score


class _Found(NamedTuple):
    source: str
    mask: Mask
    mask_score: float | None
    stability: float | None


class Explainer:
    """A segmenter beside the model that is to be explained. Raises UsageError for what cannot be asked."""

    def __init__(
        self,
        segmenter: Segmenter,
        preprocessing: Preprocessing,
        predict: Predict,
        score: Score,
        *,
        normal_score: float | None,
        words: Words | None = None,
    ) -> None:
        self._segmenter = segmenter
        self._preprocessing = preprocessing
        self._predict = predict
        self._score = score
        self._normal_score = normal_score
        self._words = words

    @property
    def segmenter(self) -> str:
        """The segmenter's name."""
        return self._segmenter.name

    def explain(self, pixels: Pixels, key: str, question: Question) -> Explanation:
        """Find the regions in question and fill them. `key`: the same for the same pixels, a hash of their file."""
        height, width = pixels.shape[:2]
        if question.prompt is not None:
            check_prompt(question.prompt, height, width)
        picture = Picture(working_copy(pixels), key)
        found = self._find(picture, question, pixels.shape)
        masks = [one.mask for one in found]
        explained = explain_regions(pixels, masks, self._preprocessing, self._predict, self._score)
        if question.is_of_everything:
            order = explained.ranking()
            found = [found[i] for i in order]
            explained = Explained(explained.whole, tuple(explained.filled[i] for i in order))
        return Explanation(
            width=width,
            height=height,
            segmenter=self.segmenter,
            whole=explained.whole,
            regions=tuple(
                _region(one, filled, height, width) for one, filled in zip(found, explained.filled, strict=True)
            ),
            explaining=explained.explaining(self._normal_score),
            working=picture.pixels,
            masks=tuple(one.mask for one in found),
            warmth=heat([one.mask for one in found], explained.changes(), *picture.pixels.shape[:2]),
        )

    def _find(self, picture: Picture, question: Question, shape: tuple[int, ...]) -> list[_Found]:
        if question.text is not None:
            return self._named(picture, question.text)
        if question.prompt is None:
            return self._everything(picture)
        small_height, small_width = picture.pixels.shape[:2]
        drawn = question.prompt.drawn
        small = None if drawn is None else enlarged(drawn, small_height, small_width)
        prompt = scaled(question.prompt, small_width / shape[1], small_height / shape[0], small)
        given = [] if small is None else [_Found("drawn", small, None, None)]
        if question.choice is not None:
            refined = refine(self._segmenter, picture, prompt, question.choice)
            return given + [_found("refined", one) for one in refined]
        kind = "point" if prompt.points else "box" if prompt.box else "mask"
        return given + [_found(kind, one) for one in self._segmenter.segment(picture, prompt)]

    def _everything(self, picture: Picture) -> list[_Found]:
        candidates = self._segmenter.everything(picture)
        kept = regions_of_their_own([candidate.mask for candidate in candidates])
        return [_found("auto", candidates[i]) for i in kept]

    def _named(self, picture: Picture, text: str) -> list[_Found]:
        if self._words is None:
            raise UsageError(
                "--text needs a zero-shot detector: Segment Anything itself takes no words; add --grounder DIR, a local"
                " folder of an OWL-ViT, OWLv2 or Grounding DINO model, or point at the thing with --point"
            )
        boxes = self._words.find(picture.pixels, text)
        if not boxes:
            raise RefusedError(f"--text {text!r}: the detector sees no such thing; try other words, or --point")
        prompts = [Prompt(box=one.box, wants_one=True) for one in boxes]
        return [_found("text", one) for prompt in prompts for one in self._segmenter.segment(picture, prompt)]


def working_copy(pixels: Pixels) -> Pixels:
    """The image itself, or reduced so that its longer side has 1,024 pixels."""
    height, width = pixels.shape[:2]
    scale = WORKING_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def _found(source: str, candidate: Candidate) -> _Found:
    stable = candidate.stability
    return _Found(source, candidate.mask, candidate.score, None if stable is None or np.isnan(stable) else stable)


def _region(found: _Found, filled: Reading | None, height: int, width: int) -> Region:
    mask = enlarged(found.mask, height, width)
    any_pixel = bool(mask.any())
    return Region(
        source=found.source,
        runs=to_runs(mask),
        box=box_of(mask) if any_pixel else None,
        share=float(mask.mean()),
        mask_score=found.mask_score,
        stability=found.stability,
        filled=filled if any_pixel else None,
    )
