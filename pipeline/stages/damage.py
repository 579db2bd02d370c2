"""Eleven ways to damage images that cost nothing to make and happen to real cameras and pipelines."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import simplejpeg
from scipy.ndimage import gaussian_filter

from pipeline.records import Pixels

Damage = Callable[[Pixels, np.random.Generator], Pixels]
UNDAMAGED, STATIC = "none", "static"


def _blur(images: Pixels, rng: np.random.Generator) -> Pixels:
    sigma = max(0.7, images.shape[1] / 32)
    blurred: Pixels = gaussian_filter(images, sigma=(0, sigma, sigma, 0), mode="nearest")
    return blurred


def _noise(images: Pixels, rng: np.random.Generator) -> Pixels:
    noisy = images + rng.normal(0, 25, images.shape).astype(np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _shift(images: Pixels, rng: np.random.Generator) -> Pixels:
    side = images.shape[1]
    by = max(1, side // 8)
    padded = np.pad(images, ((0, 0), (by, 0), (by, 0), (0, 0)), mode="edge")
    return padded[:, :side, :side]


def _jpeg(images: Pixels, rng: np.random.Generator) -> Pixels:
    encoded = (simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=10) for image in images)
    return np.stack([simplejpeg.decode_jpeg(value, "RGB") for value in encoded])


#: By name: (B, N, N, 3) uint8 → the same shape. Strengths are set so that a person still sees what it is.
DAMAGES: Mapping[str, Damage] = MappingProxyType(
    {
        "mirrored": lambda images, rng: images[:, :, ::-1],
        "rotated 90°": lambda images, rng: np.rot90(images, axes=(1, 2)),
        "inverted": lambda images, rng: 255 - images,
        "blurred": _blur,
        "noisy": _noise,
        "dark x0.3": lambda images, rng: (images * np.float32(0.3)).astype(np.uint8),
        "bright x2": lambda images, rng: np.minimum(images.astype(np.uint16) * 2, 255).astype(np.uint8),
        "red-blue swap": lambda images, rng: images[..., ::-1],
        "shifted 1/8": _shift,
        "JPEG q10": _jpeg,
        STATIC: lambda images, rng: rng.integers(0, 256, images.shape, dtype=np.uint8),
    }
)


def damaged(images: Pixels, kind: str, rng: np.random.Generator) -> Pixels:
    """A damaged copy of (B, N, N, 3) uint8 images; `static` keeps nothing of them."""
    return np.ascontiguousarray(DAMAGES[kind](images, rng))
