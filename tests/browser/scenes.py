"""Small pictures of a road, as six cameras see it; one of them through fog."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.ingest.thumbnail import thumbnail

CLASSES = ("car", "lorry", "bus", "bicycle", "person", "empty road")
_SKIES = ["#9fb8cf", "#c9d3da", "#e2c9a6", "#86a3bf", "#b7c4b1", "#d7b9b0"]
_PAINT = ["#b03a2e", "#1f618d", "#f4d03f", "#ecf0f1", "#2e4053", "#1e8449"]


def scene(camera: int, class_index: int, seed: int, *, fog: bool = False) -> bytes:
    """One frame as a WebP thumbnail."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (96, 96), _SKIES[camera % len(_SKIES)])
    draw = ImageDraw.Draw(image)
    horizon = 34 + 4 * (camera % 3)
    for left in range(-4, 96, 18):  # houses
        height = int(rng.integers(4, 6 + 3 * (camera % 4 + 1)))
        draw.rectangle((left, horizon - height, left + 13, horizon), fill=("#7d7468", "#8d8577")[left // 18 % 2])
    draw.rectangle((0, horizon, 96, 96), fill="#6f8f5f" if camera % 2 else "#7a8a6a")
    middle = 48 + 6 * (camera % 3 - 1)
    draw.polygon([(middle - 6, horizon), (middle + 6, horizon), (90, 96), (6, 96)], fill="#55585c")
    for step in range(4):
        y = horizon + 8 + step * 14
        draw.rectangle((middle - 1, y, middle + 1, y + 6), fill="#d9d9d9")
    _vehicle(draw, class_index, int(rng.integers(28, 52)), int(rng.integers(56, 72)), rng)
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(0.4)), np.float32)
    if fog:
        image = image.filter(ImageFilter.GaussianBlur(3.2))
        depth = np.linspace(0.9, 0.6, 96, dtype=np.float32)[:, None, None]
        pixels = np.asarray(image, np.float32) * (1 - depth) + 226 * depth
    noisy = pixels + rng.normal(0, 3, pixels.shape)
    return thumbnail(np.clip(noisy, 0, 255).astype(np.uint8))


def _vehicle(draw: ImageDraw.ImageDraw, class_index: int, x: int, y: int, rng: np.random.Generator) -> None:
    paint = _PAINT[int(rng.integers(len(_PAINT)))]
    width, height = [(26, 12), (34, 24), (38, 22), (12, 12), (7, 18), (0, 0)][class_index]
    if not width:
        return
    draw.rectangle((x, y - height, x + width, y), fill=paint)
    if class_index < 3:
        draw.rectangle((x + 4, y - height + 2, x + width - 4, y - height + 6), fill="#cfe3f0")
        for wheel in (x + 3, x + width - 8):
            draw.ellipse((wheel, y - 3, wheel + 6, y + 3), fill="#1b1b1b")
    else:
        draw.ellipse((x, y - height - 6, x + 6, y - height), fill="#d8b08c")
