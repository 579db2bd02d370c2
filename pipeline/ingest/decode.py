"""Bytes → RGB pixels. JPEG by simplejpeg, bit-equal to Pillow and twice as fast; all else by Pillow.

No bytes may raise anything but RejectedRecord. Sizes are checked before pixels are allocated.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
import PIL
import simplejpeg
from PIL import Image, ImageOps, features

from pipeline.errors import RejectedRecord
from pipeline.ingest.message import NPY_TYPE
from pipeline.records import Pixels, Reason

#: Part of every reference: another decoder gives other pixels, hence other energies.
DECODER = (
    f"simplejpeg {simplejpeg.__version__}, Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}"
)

Image.MAX_IMAGE_PIXELS = None  # sizes are held against our own limit, before pixels are allocated

_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"\x93NUMPY", "npy"),
    (b"GIF8", "gif"),
    (b"%PDF", "pdf"),
    (b"\x00\x00\x00\x0cjP  ", "jpeg 2000"),
    (b"\xff\x0a", "jpeg xl"),
    (b"8BPS", "psd"),
    (b"<svg", "svg"),
)
_TAKEN = frozenset({"jpeg", "png", "webp", "bmp", "tiff", "npy"})
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What an image may cost."""

    max_pixels: int = 16_000_000
    formats: frozenset[str] = _TAKEN


def sniff(value: bytes) -> str | None:
    """The format by its first bytes, whatever the headers say; None where it is not known."""
    for magic, name in _MAGIC:
        if value.startswith(magic):
            return name
    if value[:4] == b"RIFF" and value[8:12] == b"WEBP":
        return "webp"
    if value[4:8] == b"ftyp":
        return "avif or heic"
    return None


def decode(value: bytes, content_type: str | None, *, limits: DecodeLimits, exif_orientation: bool = False) -> Pixels:
    """Decode one image to (H, W, 3) uint8 RGB, C-contiguous.

    Transparency is dropped, as training pipelines do; of several frames the first counts. EXIF
    orientation is applied only on request.

    Raises RejectedRecord (stage `decode`): unknown_type, undecodable, bad_shape, too_many_pixels.
    """
    kind = "npy" if content_type == NPY_TYPE else sniff(value)
    if kind is None:
        raise _rejected(Reason.UNDECODABLE, f"no image: begins with {value[:12]!r}")
    if kind not in _TAKEN or kind not in limits.formats:
        raise _rejected(Reason.UNKNOWN_TYPE, f"{kind} is not taken; send {', '.join(sorted(limits.formats))}")
    if kind == "npy":
        return _decode_npy(value, limits)
    if kind == "jpeg" and not exif_orientation:
        pixels = _decode_jpeg(value, limits)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(value, kind, limits, exif_orientation)


def _decode_jpeg(value: bytes, limits: DecodeLimits) -> Pixels | None:
    """None where Pillow has to decide: CMYK, and whatever simplejpeg does not like."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(value)
        _check_size(width, height, limits)
        if colours not in {"YCbCr", "Gray", "RGB"}:
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(value, "RGB", fastdct=False, fastupsample=False)
    except ValueError:
        return None
    return pixels


def _decode_with_pillow(value: bytes, kind: str, limits: DecodeLimits, exif_orientation: bool) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata
            with Image.open(io.BytesIO(value), formats=[kind.upper()]) as image:
                _check_size(image.width, image.height, limits)
                if image.mode not in _EIGHT_BIT_MODES:
                    raise _rejected(
                        Reason.BAD_SHAPE,
                        f"mode {image.mode} has no safe conversion to 8-bit colour; convert it before sending",
                    )
                image.load()
                upright = ImageOps.exif_transpose(image) if exif_orientation else image
                return np.array(upright.convert("RGB"))
    except RejectedRecord:
        raise
    except Exception as error:
        # Pillow's plug-ins raise anything on damaged bytes: OSError, SyntaxError, struct.error, ...
        raise _rejected(Reason.UNDECODABLE, f"{kind}: {type(error).__name__}: {error}") from error


def _decode_npy(value: bytes, limits: DecodeLimits) -> Pixels:
    try:
        stream = io.BytesIO(value)
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
    except Exception as error:
        raise _rejected(Reason.UNDECODABLE, f"npy: {type(error).__name__}: {error}") from error
    channels = shape[2] if len(shape) == 3 else 1
    if dtype != np.uint8 or len(shape) not in {2, 3} or channels not in {1, 3, 4} or 0 in shape:
        raise _rejected(
            Reason.BAD_SHAPE, f"npy of {dtype} with shape {shape}; send uint8 of (height, width[, 1 | 3 | 4])"
        )
    _check_size(shape[1], shape[0], limits)
    body = value[stream.tell() :]
    if len(body) != shape[0] * shape[1] * channels:
        raise _rejected(Reason.UNDECODABLE, f"npy: {len(body):,} bytes for shape {shape}")
    array = np.frombuffer(body, np.uint8).reshape(shape, order="F" if fortran else "C")
    planes = array.reshape(shape[0], shape[1], channels)[..., :3]
    return np.ascontiguousarray(np.broadcast_to(planes, (shape[0], shape[1], 3)))


def _check_size(width: int, height: int, limits: DecodeLimits) -> None:
    if width * height > limits.max_pixels:
        raise _rejected(
            Reason.TOO_MANY_PIXELS,
            f"{width} x {height} = {width * height:,} pixels, the limit is {limits.max_pixels:,};"
            " raise limits.max_pixels or send smaller images",
        )
    if width < 1 or height < 1:
        raise _rejected(Reason.BAD_SHAPE, f"{width} x {height} pixels")


def _rejected(reason: Reason, text: str) -> RejectedRecord:
    return RejectedRecord("decode", reason, text)
