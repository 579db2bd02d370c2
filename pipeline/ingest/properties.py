"""Image properties: five plain numbers that tell a lens from an exposure."""

import math

import numpy as np

from pipeline.records import Float32s, ImageProperties, Pixels

_GRID = 64
# Rows: luma (ITU-R BT.601), red − green, yellow − blue, of 0..255 input.
_OPPONENT: Float32s = np.array([[0.299, 0.587, 0.114], [1, -1, 0], [0.5, 0.5, -1]], dtype=np.float32) / np.float32(255)


def measure(pixels: Pixels) -> ImageProperties:
    """Measure (H, W, 3) uint8 RGB on a grid of at most 64 x 64 points; smaller images entirely.

    Luma Y = .299 R + .587 G + .114 B on a 0..1 scale.
        brightness     mean Y
        contrast       standard deviation of Y
        sharpness      mean |Y(i, j+1) − Y(i, j)| and |Y(i+1, j) − Y(i, j)| of true neighbours, averaged
        colourfulness  √(σ²_rg + σ²_yb) + 0.3 √(μ²_rg + μ²_yb), rg = R − G, yb = (R + G)/2 − B
        size           H · W

    Source: Hasler and Süsstrunk 2003, "Measuring colourfulness in natural images", on 0..1 RGB.
    """
    height, width = pixels.shape[:2]
    step_y, step_x = -(-height // _GRID), -(-width // _GRID)
    sampled = pixels[::step_y, ::step_x]
    opponent = _opponent(sampled)
    # Sums and dot products: ndarray.mean, var and std cost ten times as much on so few numbers.
    n = opponent.shape[1]
    mean = opponent.sum(axis=1) / np.float32(n)
    centred = opponent - mean[:, None]
    luma_variance, rg_variance, yb_variance = (float(row @ row) / n for row in centred)
    luma = opponent[0].reshape(sampled.shape[:2])
    return ImageProperties(
        brightness=float(mean[0]),
        contrast=math.sqrt(luma_variance),
        sharpness=_sharpness(pixels, luma, step_y, step_x),
        colourfulness=math.sqrt(rg_variance + yb_variance) + 0.3 * math.hypot(float(mean[1]), float(mean[2])),
        size=height * width,
    )


def _opponent(pixels: Pixels) -> Float32s:
    """(3, P): luma and the two opponent colours of each pixel, on a 0..1 scale."""
    planes = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    opponent: Float32s = np.dot(_OPPONENT, planes.reshape(3, -1))
    return opponent


def _sharpness(pixels: Pixels, luma: Float32s, dy: int, dx: int) -> float:
    if dy == dx == 1:
        pairs = ((luma[:, 1:], luma[:, :-1]), (luma[1:], luma[:-1]))
    else:
        right, below = pixels[::dy, 1::dx], pixels[1::dy, ::dx]
        right_luma = _opponent(right)[0].reshape(right.shape[:2])
        below_luma = _opponent(below)[0].reshape(below.shape[:2])
        pairs = (
            (right_luma, luma[:, : right.shape[1]]),
            (below_luma, luma[: below.shape[0]]),
        )
    steps = [_mean_distance(a, b) for a, b in pairs if a.size]
    return sum(steps) / len(steps) if steps else 0.0


def _mean_distance(left: Float32s, right: Float32s) -> float:
    step = left - right
    return float(np.abs(step, out=step).sum()) / step.size
