"""What decoding costs beside Pillow."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from skimage import data

from pipeline.ingest.decode import DecodeLimits, decode
from tests.benchmarks.timing import thread_cpu_s

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")  # of scikit-image
IMAGES = 100
LIMITS = DecodeLimits()


def photographs(home: Path, repetitions: int, *, width: int, height: int) -> list[float]:
    """CPU time of Pillow over ours for photographs, cut to size and saved with quality 85."""
    makers: list[Callable[[], Any]] = [getattr(data, name) for name in PHOTOGRAPHS]
    pictures = [Image.fromarray(photograph()) for photograph in makers]
    return _pillow_over_ours([_encoded(picture, width, height) for picture in pictures], repetitions)


def _pillow_over_ours(values: Sequence[bytes], repetitions: int) -> list[float]:
    ratios = []
    for _ in range(-1, repetitions):  # the first turn warms up
        ours = pillow = 0.0
        for i in range(IMAGES):  # in turn, image by image: what else the machine does falls on both alike
            value = values[i % len(values)]
            ours += thread_cpu_s(partial(decode, value, None, limits=LIMITS))
            pillow += thread_cpu_s(partial(_decode_with_pillow, value))
        ratios.append(pillow / ours)
    return ratios[1:]


def _decode_with_pillow(value: bytes) -> object:
    return np.asarray(Image.open(io.BytesIO(value)).convert("RGB"))


def _encoded(picture: Image.Image, width: int, height: int) -> bytes:
    out = io.BytesIO()
    ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
    return out.getvalue()
