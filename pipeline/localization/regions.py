"""Regions of an image as boolean masks: runs, boxes, overlaps, and how one is filled from its surroundings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.records import Float64s, Pixels

Mask = NDArray[np.bool_]  # (H, W)

#: What a region of its own may be: less is noise, more is the picture itself.
SMALLEST_SHARE, LARGEST_SHARE = 0.001, 0.60
SAME_REGION = 0.9  # intersection over union from which two masks are one region


class Box(NamedTuple):
    """Corners in pixels from the top left; x1 and y1 are the last pixel's own coordinates."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Runs:
    """A mask as COCO writes it, uncompressed: lengths of runs down the columns, the first one of pixels outside."""

    height: int
    width: int
    counts: tuple[int, ...]


def to_runs(mask: Mask) -> Runs:
    """(H, W) → runs. The inverse of `from_runs`."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    height, width = mask.shape
    return Runs(height, width, tuple(([0] if flat[0] else []) + lengths))


def from_runs(runs: Runs) -> Mask:
    """Runs → (H, W). Raises ValueError where they do not fill the image."""
    if sum(runs.counts) != runs.height * runs.width:
        raise ValueError(f"runs of {sum(runs.counts)} pixels for {runs.height} x {runs.width}")
    inside = np.arange(len(runs.counts)) % 2 == 1
    return np.repeat(inside, runs.counts).reshape((runs.height, runs.width), order="F")


def box_of(mask: Mask) -> Box:
    """The smallest box around a mask that is not empty."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(float(xs[0]), float(ys[0]), float(xs[-1]), float(ys[-1]))


def overlap(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def box_overlaps(boxes: Float64s) -> Float64s:
    """(n, 4) → (n, n) intersection over union of boxes as areas between their corners, 0 where both have none."""
    x0, y0, x1, y1 = boxes.T
    wide = (np.minimum.outer(x1, x1) - np.maximum.outer(x0, x0)).clip(0)
    high = (np.minimum.outer(y1, y1) - np.maximum.outer(y0, y0)).clip(0)
    areas = (x1 - x0) * (y1 - y0)
    common: Float64s = wide * high
    union = areas[:, None] + areas[None, :] - common
    overlaps: Float64s = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlaps


def suppress(boxes: Float64s, scores: Float64s, limit: float) -> list[int]:
    """Greedy box suppression: which boxes stay, the best first.

    A box goes where its overlap with a better one that stays is above the limit; of equal scores the first
    is the better.
    """
    overlaps = box_overlaps(boxes)
    waiting = np.ones(len(boxes), np.bool_)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if waiting[i]:
            kept.append(i)
            waiting &= overlaps[i] <= limit
    return kept


def regions_of_their_own(masks: Sequence[Mask]) -> list[int]:
    """Which masks can be shown as regions: neither specks nor the picture, and each once, the first of its kind."""
    kept: list[int] = []
    for i, mask in enumerate(masks):
        if SMALLEST_SHARE <= mask.mean() <= LARGEST_SHARE and all(overlap(mask, masks[j]) <= SAME_REGION for j in kept):
            kept.append(i)
    return kept


def ring_fill(pixels: Pixels, mask: Mask, width: int) -> Pixels | None:
    """The picture without the region: its pixels become the median colour of the ring around it.

    Args:
        pixels: (H, W, 3) uint8.
        mask: (H, W), not empty.
        width: of the ring, pixels.

    Returns:
        A copy, (H, W, 3); None where nothing surrounds the region.
    """
    ring = ndimage.binary_dilation(mask, np.ones((3, 3), np.bool_), iterations=width) & ~mask
    if not ring.any():
        return None
    filled = pixels.copy()
    filled[mask] = np.median(pixels[ring], axis=0).round().astype(np.uint8)
    return filled


def enlarged(mask: Mask, height: int, width: int) -> Mask:
    """The mask at another size, by the nearest pixel."""
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width
    resized: Mask = mask[rows.astype(np.intp)[:, None], columns.astype(np.intp)[None, :]]
    return resized
