"""How much of an image's strangeness lies in a region: the change of its score when the region is filled.

    ΔE(r) = E(x with r filled from its surroundings) − E(x)       nats; below 0: without r the image is more familiar

The model is asked about whole images alone. A crop says nothing: it is itself unlike anything that the model
has seen, and crops of plain background score higher than any foreign object.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import ModelFailure
from pipeline.localization.regions import Mask, ring_fill
from pipeline.models.preprocessing import Preprocessing, fit
from pipeline.records import Float64s, Outputs, Pixels, Scores

LEAST_CHANGE = 1.0  # nats that a region must account for before it explains anything
LEAST_SHARE = 0.25  # and this share of what the image lies above a normal one
_BATCH = 64
_TOUCHED = 25  # of 255

Predict = Callable[[Pixels], Outputs]
Score = Callable[[Outputs], Scores]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says about one image."""

    energy: float  # nats
    score: float  # nats; what the reference flags by: the energy, or energy + residual
    msp: float
    class_index: int


@dataclass(frozen=True, slots=True)
class Explained:
    """One image and what filling each of its regions does; None: the model sees nothing but the region."""

    whole: Reading
    filled: tuple[Reading | None, ...]

    def changes(self) -> Float64s:
        """Change of the score by region, nats; 0 where a region could not be filled."""
        return np.array([0.0 if reading is None else reading.score - self.whole.score for reading in self.filled])

    def ranking(self) -> list[int]:
        """Regions, the one that explains most first."""
        return [int(i) for i in np.argsort(self.changes(), kind="stable")]

    def explaining(self, normal_score: float | None) -> int | None:
        """The region that explains the image; None where no single one does, or where nothing is unusual.

        Args:
            normal_score: the median of normal images' scores; None where it is not known.
        """
        excess = 0.0 if normal_score is None else self.whole.score - normal_score
        if not self.filled or excess < 0:
            return None
        first = self.ranking()[0]
        return first if -self.changes()[first] >= max(LEAST_CHANGE, LEAST_SHARE * excess) else None


def explain_regions(
    pixels: Pixels, masks: Sequence[Mask], preprocessing: Preprocessing, predict: Predict, score: Score
) -> Explained:
    """Fill each region in the model's own input and score what comes of it.

    Filling there, not in the original, leaves every other pixel as the model saw it.

    Args:
        pixels: (H, W, 3), the image as decoded.
        masks: (h, w) each, of the image's shape at whatever size.

    Raises ModelFailure where the model's answer to the image itself is not finite.
    """
    seen = fit(pixels, preprocessing)
    variants = [_filled(seen, on_input(mask, preprocessing)) for mask in masks]
    inputs = [seen, *(variant for variant in variants if variant is not None)]
    readings = [
        reading
        for start in range(0, len(inputs), _BATCH)
        for reading in _read(np.stack(inputs[start : start + _BATCH]), predict, score)
    ]
    whole, *others = readings
    if whole is None:
        raise ModelFailure("the model answers NaN or infinity to this image: there is no energy to explain")
    rest = iter(others)
    return Explained(whole, tuple(None if variant is None else next(rest) for variant in variants))


def on_input(mask: Mask, preprocessing: Preprocessing) -> Mask:
    """Which pixels of the model's input the region reaches: by a tenth, for a rim that stays would still tell of it."""
    grey = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
    shares = fit(grey, preprocessing)[:, :, 0]
    return shares > min(_TOUCHED, int(shares.max()) // 2)


def _filled(seen: Pixels, mask: Mask) -> Pixels | None:
    """The input itself where the region lies outside of what the model sees."""
    return ring_fill(seen, mask, ring_width(len(seen))) if mask.any() else seen


def ring_width(side: int) -> int:
    """Pixels of surroundings that a region of an input of that side is filled from."""
    return max(2, side // 8)


def _read(batch: Pixels, predict: Predict, score: Score) -> list[Reading | None]:
    scores = score(predict(batch))
    return [
        Reading(float(scores.energy[i]), float(scores.score[i]), float(scores.msp[i]), int(scores.class_index[i]))
        if scores.finite[i]
        else None
        for i in range(len(batch))
    ]


def heat(masks: Sequence[Mask], changes: Float64s, height: int, width: int) -> Float64s:
    """(height, width): at each pixel what the best region around it accounts for, nats, 0 where none does."""
    warmth = np.zeros((height, width))
    for mask, change in zip(masks, changes.tolist(), strict=True):
        warmth = np.maximum(warmth, np.where(mask, max(0.0, -change), 0.0))
    return warmth
