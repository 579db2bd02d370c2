"""Pictures for people, re-encoded from pixels, so that no metadata survives."""

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


def as_png(pixels: Pixels, longest: int | None) -> bytes:
    """(H, W, 3) uint8 RGB as PNG without loss, but for a longer side beyond `longest` pixels: it is made so long."""
    image = Image.fromarray(pixels)
    if longest is not None:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)  # it is sent once, over a short way
    return out.getvalue()
