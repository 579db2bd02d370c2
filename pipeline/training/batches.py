"""Which images a step of training sees, and how they are varied: functions of (seed, step) alone.

Nothing is drawn from a generator that lives on, so a run that was interrupted goes on bit for bit.
"""

import math
from typing import Literal

import numpy as np

from pipeline.records import Ints, Pixels

Augmentation = Literal["flip+crop", "crop", "none"]
_PAD_SHARE = 8  # a border of an eighth of the side: 4 of 32 pixels, as training on CIFAR-10 does


def stream_rows(n: int, start: int, count: int, seed: tuple[int, ...]) -> Ints:
    """Places [start, start + count) of an endless stream of shuffles of n rows: each shuffle holds every row once."""
    first, last = start // n, (start + count - 1) // n
    shuffles = [np.random.default_rng((*seed, number)).permutation(n) for number in range(first, last + 1)]
    return np.concatenate(shuffles)[start - first * n :][:count].astype(np.int64)


def vary(images: Pixels, how: Augmentation, rng: np.random.Generator) -> Pixels:
    """Each of the (B, N, N, 3) images cut at random from a black border around it, and half of them mirrored."""
    if how == "none":
        return images
    n, side = len(images), images.shape[1]
    pad = max(1, side // _PAD_SHARE)
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    tops, lefts = rng.integers(0, 2 * pad + 1, (2, n))
    mirrored = rng.random(n) < 0.5
    cut = np.stack([padded[i, tops[i] : tops[i] + side, lefts[i] : lefts[i] + side] for i in range(n)])
    if how == "flip+crop":
        cut[mirrored] = cut[mirrored, :, ::-1]
    return cut


def cosine_rate(step: int, steps: int, peak: float, floor: float = 1e-6) -> float:
    """The learning rate of step 0..steps−1: half a cosine from `peak` down to `floor`."""
    return floor + (peak - floor) * (1 + math.cos(math.pi * step / steps)) / 2
