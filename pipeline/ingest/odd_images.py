"""Images that no classifier was made for, drawn here: static, stripes, plasma. What a drill sends by default."""

import io
from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 224


def odd_images(count: int, rng: np.random.Generator) -> Iterator[bytes]:
    """So many PNG files, of each kind in turn; no two are the same."""
    for kind in islice(cycle((_static, _stripes, _plasma)), count):
        out = io.BytesIO()
        Image.fromarray(kind(rng)).save(out, "PNG")
        yield out.getvalue()


def _static(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)


def _stripes(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Two glaring colours in turn, some pixels wide."""
    width = int(rng.integers(2, 40))
    first, second = rng.choice([0, 255], (2, 3))
    second = np.where((first == second).all(), 255 - first, second)
    striped = np.where(((np.arange(_SIDE) // width) % 2 == 0)[:, None], first, second)
    return np.broadcast_to(striped, (_SIDE, _SIDE, 3)).astype(np.uint8)


def _plasma(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Waves of all colours through each other."""
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    waves = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in rng.uniform(-9, 9, (3, 3))]
    return np.stack([np.round(127.5 * (1 + wave)) for wave in waves], axis=-1).astype(np.uint8)
