"""What decoding costs beside Pillow."""

import io
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.ingest.decode import DecodeLimits, decode
from tests.benchmarks.inputs import jpeg
from tests.benchmarks.timing import thread_cpu_s

IMAGES = 100


def pillow_over_decode(home: Path, repetitions: int, *, width: int, height: int) -> list[float]:
    """CPU time of Pillow over ours, for the same 100 JPEGs."""
    values = [jpeg(width, height, i) for i in range(IMAGES)]
    limits = DecodeLimits()
    ratios = []
    for _ in range(-1, repetitions):
        ours = thread_cpu_s(partial(_decode_all, values, limits))
        pillow = thread_cpu_s(partial(_decode_all_with_pillow, values))
        ratios.append(pillow / ours)
    return ratios[1:]


def _decode_all(values: list[bytes], limits: DecodeLimits) -> None:
    for value in values:
        decode(value, None, limits=limits)


def _decode_all_with_pillow(values: list[bytes]) -> None:
    for value in values:
        np.asarray(Image.open(io.BytesIO(value)).convert("RGB"))
