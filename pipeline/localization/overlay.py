"""An explanation as a picture: what was asked about, in colour over the image."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.localization.explainer import Explanation
from pipeline.localization.regions import Mask
from pipeline.records import Float64s, Pixels

_LEAST_SIDE = 384  # small images are enlarged to this, so that an outline of a pixel can be seen
_COLOURS = ((230, 60, 40), (40, 120, 230), (240, 180, 20))
_HOT = np.array((255.0, 60.0, 20.0))
_GAP = 8


def overlay(explanation: Explanation) -> bytes:
    """A PNG of all panels side by side."""
    shown = panels(explanation)
    height, width = shown[0].shape[:2]
    sheet = np.full((height, len(shown) * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for i, panel in enumerate(shown):
        sheet[:, i * (width + _GAP) : i * (width + _GAP) + width] = panel
    return as_png(sheet)


def panels(explanation: Explanation) -> list[Pixels]:
    """One a region as it was found; of the whole picture one, the warmer the more it explains."""
    if explanation.regions and explanation.regions[0].source != "auto":
        return [outlined(explanation.working, mask, i) for i, mask in enumerate(explanation.masks)]
    best = [] if explanation.explaining is None else [explanation.masks[explanation.explaining]]
    return [_warm(explanation.working, explanation.warmth, best)]


def as_png(pixels: Pixels) -> bytes:
    """The same as a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def outlined(pixels: Pixels, mask: Mask, number: int) -> Pixels:
    """A region over its image, both of one size, in the colour of that number."""
    times = _times(pixels)
    large, region = _repeat(pixels, times), _repeat(mask, times)
    colour = np.array(_COLOURS[number % len(_COLOURS)], np.float64)
    shown = np.where(region[:, :, None], 0.55 * large + 0.45 * colour, large)
    shown[_outline(region)] = colour
    return shown.round().astype(np.uint8)


def _warm(pixels: Pixels, warmth: Float64s, best: list[Mask]) -> Pixels:
    times = _times(pixels)
    large = _repeat(pixels, times).astype(np.float64)
    share = _repeat(warmth / max(float(warmth.max()), 1e-9), times)[:, :, None] * 0.7
    grey = large.mean(axis=2, keepdims=True)
    shown = (1 - share) * (0.4 * large + 0.6 * grey) + share * _HOT
    for mask in best:
        shown[_outline(_repeat(mask, times))] = 255
    painted: Pixels = shown.round().clip(0, 255).astype(np.uint8)
    return painted


def _times(pixels: Pixels) -> int:
    return max(1, -(-_LEAST_SIDE // int(max(pixels.shape[:2]))))


def _repeat(array: NDArray[Any], times: int) -> NDArray[Any]:
    return array.repeat(times, axis=0).repeat(times, axis=1)


def _outline(mask: Mask) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, iterations=2) & ~mask)
