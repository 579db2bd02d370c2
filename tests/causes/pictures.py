"""Tinted digits and what can happen to them: pictures whose colours mean something, so that a swap of channels does."""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.demo.digits import DemoImages
from pipeline.records import Float64s, Pixels

SIDE = 32
#: Cold paper, warm ink: the mean colour is nearly grey, as of most scenes.
_PAPER, _INK = np.array([72.0, 85.0, 106.0]), np.array([230.0, 200.0, 145.0])

Damage = Callable[[Pixels, np.random.Generator], Pixels]


def tinted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """(N, 64, 64, 3) grey digits as (N, 32, 32, 3), each with a light of its own and some sensor noise."""
    small = np.stack([np.asarray(Image.fromarray(one).resize((SIDE, SIDE)).convert("L")) for one in pixels])
    ink = small[..., None] / 255.0
    light = rng.uniform(0.85, 1.15, (len(small), 1, 1, 1))
    coloured = (_PAPER + ink * (_INK - _PAPER)) * light + rng.normal(0, 4, (*small.shape, 3))
    return _pixels(coloured)


def shifted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The same scans one more time, moved a little: more pictures for a calibration."""
    steps = rng.integers(-3, 4, (len(pixels), 2))
    moved: Pixels = np.stack([np.roll(one, tuple(step), (0, 1)) for one, step in zip(pixels, steps, strict=True)])
    return moved


def _pixels(values: Float64s) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _fog(images: Pixels, rng: np.random.Generator) -> Pixels:
    veil = 200.0
    hazy = gaussian_filter(images.astype(np.float64), sigma=(0, 0.7, 0.7, 0)) * 0.4 + veil * 0.6
    return _pixels(hazy)


def _dark(images: Pixels, rng: np.random.Generator) -> Pixels:
    return (images * np.float32(0.3)).astype(np.uint8)


def _swapped(images: Pixels, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(images[..., ::-1])


def _resized(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Somebody upstream has changed the aspect: three times as wide."""
    return np.stack([np.asarray(Image.fromarray(one).resize((3 * SIDE, SIDE))) for one in images])


#: What is done to pictures themselves.
DAMAGES: Mapping[str, Damage] = {"fog": _fog, "dark": _dark, "channel swap": _swapped, "resize": _resized}


def strangers(images: DemoImages, rng: np.random.Generator) -> Pixels:
    """What the reader has never seen, in the same colours: pieces of a cat."""
    return tinted(images.cats, rng)
