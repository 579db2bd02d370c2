"""Image properties: five plain numbers that tell a lens from an exposure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.records import Float32s, ImageProperties, Pixels

_GRID = 64
# Rows: luma (ITU-R BT.601), red − green, yellow − blue, of 0..255 input.
_OPPONENT: Float32s = np.array([[0.299, 0.587, 0.114], [1, -1, 0], [0.5, 0.5, -1]], dtype=np.float32) / np.float32(255)


class Grid(NamedTuple):
    """At most 64 x 64 points of an image, all (h, w, 3) uint8: what is measured is small, however large it was."""

    points: Pixels
    right: Pixels | None  # the right-hand neighbour of each point; None where the points themselves are neighbours
    below: Pixels | None
    size: int  # pixels of the whole image


def grid_of(pixels: Pixels) -> Grid:
    """Every k-th row and column of (H, W, 3) uint8 RGB; smaller images entirely."""
    height, width = pixels.shape[:2]
    dy, dx = -(-height // _GRID), -(-width // _GRID)
    if dy == dx == 1:
        return Grid(pixels, None, None, height * width)
    points, right, below = pixels[::dy, ::dx], pixels[::dy, 1::dx], pixels[1::dy, ::dx]
    return Grid(points.copy(), right.copy(), below.copy(), height * width)


def measure(grids: Sequence[Grid]) -> list[ImageProperties]:
    """Measure images by their grids; those of one shape together, as numpy is slow on few numbers.

    Luma Y = .299 R + .587 G + .114 B on a 0..1 scale.
        brightness     mean Y
        contrast       standard deviation of Y
        sharpness      mean |Y(i, j+1) − Y(i, j)| and |Y(i+1, j) − Y(i, j)| of true neighbours, averaged
        colourfulness  √(σ²_rg + σ²_yb) + 0.3 √(μ²_rg + μ²_yb), rg = R − G, yb = (R + G)/2 − B
        size           H · W

    Source: Hasler and Süsstrunk 2003, "Measuring colourfulness in natural images", on 0..1 RGB.
    """
    by_shape: dict[tuple[tuple[int, ...] | None, ...], list[int]] = {}
    for i, grid in enumerate(grids):
        by_shape.setdefault(tuple(None if part is None else part.shape for part in grid[:3]), []).append(i)
    measured: dict[int, ImageProperties] = {}
    for members in by_shape.values():
        measured |= zip(members, _measure_alike([grids[i] for i in members]), strict=True)
    return [measured[i] for i in range(len(grids))]


def _measure_alike(grids: Sequence[Grid]) -> list[ImageProperties]:
    """The same for n grids of one shape."""
    opponent = _opponent([grid.points for grid in grids])
    planes = opponent.reshape(3, len(grids), -1)
    mean = planes.mean(axis=2)
    variance = np.square(planes - mean[:, :, None]).mean(axis=2)
    colourfulness = np.sqrt(variance[1] + variance[2]) + 0.3 * np.hypot(mean[1], mean[2])
    columns = (mean[0], np.sqrt(variance[0]), _sharpness(opponent[0], grids), colourfulness)
    rows = zip(*(column.tolist() for column in columns), (grid.size for grid in grids), strict=True)
    return [ImageProperties(*row) for row in rows]


def _opponent(images: Sequence[Pixels]) -> Float32s:
    """(3, n, h, w): luma and the two opponent colours of each pixel, on a 0..1 scale."""
    stacked = np.stack(images)
    planes = stacked.transpose(3, 0, 1, 2).astype(np.float32, order="C")
    opponent: Float32s = np.dot(_OPPONENT, planes.reshape(3, -1))
    return opponent.reshape(3, *stacked.shape[:3])


def _sharpness(luma: Float32s, grids: Sequence[Grid]) -> Float32s:
    """(n,): mean step to the right and below, averaged; 0 for a single pixel."""
    first = grids[0]
    if first.right is None or first.below is None:
        pairs = [(luma[:, :, 1:], luma[:, :, :-1]), (luma[:, 1:], luma[:, :-1])]
    else:
        right = _opponent([grid.right for grid in grids if grid.right is not None])[0]
        below = _opponent([grid.below for grid in grids if grid.below is not None])[0]
        pairs = [(right, luma[:, :, : right.shape[2]]), (below, luma[:, : below.shape[1]])]
    steps = [np.abs(a - b).mean(axis=(1, 2)) for a, b in pairs if a.size]
    return sum(steps, start=np.zeros(len(grids), np.float32)) / np.float32(max(1, len(steps)))
