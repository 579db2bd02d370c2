"""Image properties: five plain numbers that tell a lens from an exposure."""

import math

import numpy as np

from pipeline.records import Float32s, ImageProperties, Pixels

_GRID = 64
# Columns: luma (ITU-R BT.601), red − green, yellow − blue; for 0..255 input.
_OPPONENT: Float32s = np.array([[0.299, 1, 0.5], [0.587, -1, 0.5], [0.114, 0, -1]], dtype=np.float32) / np.float32(255)


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
    mean = opponent.mean(axis=0)
    centred = opponent - mean
    variance = np.einsum("ij,ij->j", centred, centred) / len(opponent)
    brightness, red_green, yellow_blue = mean.tolist()
    luma = opponent[:, 0].reshape(sampled.shape[:2])
    return ImageProperties(
        brightness=brightness,
        contrast=math.sqrt(variance[0]),
        sharpness=_sharpness(pixels, luma, step_y, step_x),
        colourfulness=math.sqrt(variance[1] + variance[2]) + 0.3 * math.hypot(red_green, yellow_blue),
        size=height * width,
    )


def _opponent(pixels: Pixels) -> Float32s:
    """(P, 3): luma and the two opponent colours of each pixel, on a 0..1 scale."""
    return pixels.reshape(-1, 3).astype(np.float32) @ _OPPONENT


def _sharpness(pixels: Pixels, luma: Float32s, dy: int, dx: int) -> float:
    if dy == dx == 1:
        pairs = ((luma[:, 1:], luma[:, :-1]), (luma[1:], luma[:-1]))
    else:
        right, below = pixels[::dy, 1::dx], pixels[1::dy, ::dx]
        right_luma = _opponent(right)[:, 0].reshape(right.shape[:2])
        below_luma = _opponent(below)[:, 0].reshape(below.shape[:2])
        pairs = (
            (right_luma, luma[:, : right.shape[1]]),
            (below_luma, luma[: below.shape[0]]),
        )
    steps = [float(np.abs(a - b).mean()) for a, b in pairs if a.size]
    return sum(steps) / len(steps) if steps else 0.0
