"""Thumbnails: WebP, re-encoded from pixels, so that no metadata survives."""

import io

from PIL import Image

from pipeline.records import Pixels


def thumbnail(pixels: Pixels, side: int = 160) -> bytes:
    """(H, W, 3) uint8 RGB as WebP, the longer side at most `side` pixels, never enlarged."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80, method=2)
    return out.getvalue()
