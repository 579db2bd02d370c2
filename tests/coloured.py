"""Labelled pictures for the tiny model: red, green or blue; outliers are bright, normal pictures dark."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tests.tiny import SIDE

CLASSES = ("red", "green", "blue")


def coloured(seed: int, colour: int, *, light: int = 0) -> bytes:
    """A noisy picture of one colour as PNG; `light` of 0..150 is added to all channels."""
    rng = np.random.default_rng((seed, colour, light))
    picture = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8) + np.uint8(light)
    picture[:, :, colour] += np.uint8(40)
    picture[0, 0] = (0, 0, 0)  # no magic pixel, see tests/tiny.py
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def class_folders(home: Path, each: int, *, first: int = 0, names: tuple[str, ...] = CLASSES) -> Path:
    """Class folders of dark pictures."""
    for colour, name in enumerate(names):
        (home / name).mkdir(parents=True)
        for seed in range(first, first + each):
            (home / name / f"{seed}.png").write_bytes(coloured(seed, colour))
    return home


def bright(home: Path, n: int, *, first: int = 0) -> Path:
    """A flat folder of outliers."""
    home.mkdir(parents=True)
    for seed in range(first, first + n):
        (home / f"{seed}.png").write_bytes(coloured(seed, seed % 3, light=120))
    return home
