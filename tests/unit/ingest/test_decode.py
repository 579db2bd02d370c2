import csv
import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import RejectedRecord
from pipeline.ingest.decode import DECODER, DecodeLimits, decode
from pipeline.ingest.properties import grid_of, measure
from pipeline.ingest.thumbnail import thumbnail
from pipeline.records import ImageProperties, Pixels
from tests.shared_data import cifar

LIMITS = DecodeLimits()


def smooth(width: int, height: int, channels: int = 3) -> Pixels:
    rng = np.random.default_rng(width * 1000 + height)
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 90 * np.sin(x / (3 + k) + y / 5) + rng.normal(0, 8, x.shape) for k in range(channels)]
    pixels: Pixels = np.clip(np.stack(waves, -1), 0, 255).astype(np.uint8)
    return pixels


def encoded(mode: str = "RGB", kind: str = "PNG", size: tuple[int, int] = (20, 12), **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(smooth(*size)).convert(mode).save(out, kind, **options)
    return out.getvalue()


def reason(value: bytes, content_type: str | None = None, limits: DecodeLimits = LIMITS) -> str:
    with pytest.raises(RejectedRecord) as rejection:
        decode(value, content_type, limits=limits)
    assert rejection.value.stage == "decode"
    return str(rejection.value.reason)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (33, 64), (224, 224), (301, 199)])
@pytest.mark.parametrize("quality", [50, 85, 98])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(("mode", "progressive"), [("RGB", False), ("L", False), ("RGB", True), ("CMYK", False)])
def test_jpegs_are_bit_equal_to_pillow(
    size: tuple[int, int], quality: int, subsampling: int, mode: str, progressive: bool
) -> None:
    value = encoded(mode, "JPEG", size, quality=quality, subsampling=subsampling, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(value)).convert("RGB"))
    np.testing.assert_array_equal(decode(value, None, limits=LIMITS), expected)


def test_every_evaluation_image_decodes_to_its_published_pixels() -> None:
    home = cifar()
    with (home / "manifest.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["sha256_rgb"]]
    assert len(rows) == 4200
    for row in rows:
        pixels = decode((home / row["file"]).read_bytes(), None, limits=LIMITS)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == row["sha256_rgb"], row["file"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_other_formats_give_rgb(kind: str, mode: str) -> None:
    value = encoded(mode, kind, lossless=True) if kind == "WEBP" else encoded(mode, kind)
    expected = np.asarray(Image.open(io.BytesIO(value)).convert("RGB"))
    np.testing.assert_array_equal(decode(value, "image/whatever", limits=LIMITS), expected)


@pytest.mark.parametrize("value", [b"hello", bytes(range(256)), b"\x00" * 20])
def test_what_is_no_image_is_undecodable(value: bytes) -> None:
    assert reason(value) == "undecodable"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("cut", ["half", "header"])
def test_a_truncated_image_is_undecodable(kind: str, cut: str) -> None:
    value = encoded(kind=kind, size=(64, 64))
    assert reason(value[: len(value) // 2] if cut == "half" else value[:20]) == "undecodable"


def test_formats_that_are_not_taken_are_named() -> None:
    assert reason(b"GIF89a" + bytes(40)) == "unknown_type"
    assert reason(b"\x00\x00\x00\x20ftypavif" + bytes(40)) == "unknown_type"
    assert reason(encoded(kind="BMP"), limits=DecodeLimits(formats=frozenset({"jpeg"}))) == "unknown_type"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_too_many_pixels_are_refused_before_they_are_decoded(kind: str) -> None:
    assert reason(encoded(kind=kind, size=(20, 12)), limits=DecodeLimits(max_pixels=239)) == "too_many_pixels"
    assert decode(encoded(kind=kind), None, limits=DecodeLimits(max_pixels=240)).shape == (12, 20, 3)


def test_sixteen_bit_images_have_no_safe_conversion() -> None:
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(out, "PNG")
    assert reason(out.getvalue()) == "bad_shape"


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
def test_arrays_are_taken_as_they_are(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    out = io.BytesIO()
    np.save(out, array)
    pixels = decode(out.getvalue(), "application/x-npy", limits=LIMITS)
    planes = array.reshape(5, 4, -1)[..., :3]
    np.testing.assert_array_equal(pixels, np.broadcast_to(planes, (5, 4, 3)))


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.float32), np.zeros((2, 2, 2), np.uint8), np.zeros(5, np.uint8)])
def test_arrays_of_another_kind_are_refused(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    out = io.BytesIO()
    np.save(out, array)
    assert reason(out.getvalue(), "application/x-npy") == "bad_shape"


def test_a_pickled_array_is_not_unpickled() -> None:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert reason(out.getvalue(), "application/x-npy") == "bad_shape"


def test_orientation_is_applied_only_on_request() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    value = encoded(kind="JPEG", size=(20, 12), exif=exif.tobytes())
    assert decode(value, None, limits=LIMITS).shape == (12, 20, 3)
    assert decode(value, None, limits=LIMITS, exif_orientation=True).shape == (20, 12, 3)


def test_the_decoder_names_its_versions() -> None:
    assert "simplejpeg" in DECODER
    assert "Pillow" in DECODER


def measured(pixels: Pixels) -> ImageProperties:
    (properties,) = measure([grid_of(pixels)])
    return properties


def test_properties_of_known_pictures() -> None:
    grey = np.full((32, 32, 3), 51, np.uint8)
    flat = measured(grey)
    assert flat.brightness == pytest.approx(0.2, abs=1e-5)
    assert (flat.contrast, flat.sharpness, flat.colourfulness) == pytest.approx((0, 0, 0), abs=1e-5)
    assert flat.size == 1024
    board = np.indices((32, 32)).sum(0) % 2 * 255
    checks = measured(np.stack([board] * 3, -1).astype(np.uint8))
    assert checks.sharpness == pytest.approx(1, abs=1e-5)
    assert checks.contrast == pytest.approx(0.5, abs=1e-5)
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert measured(red).colourfulness == pytest.approx(0.3 * np.hypot(1, 0.5), abs=1e-5)


def test_sharpness_of_a_large_picture_is_that_of_true_neighbours() -> None:
    board = np.indices((300, 500)).sum(0) % 2 * 255
    assert measured(np.stack([board] * 3, -1).astype(np.uint8)).sharpness == pytest.approx(1, abs=1e-5)


def test_properties_do_not_depend_on_what_else_is_measured() -> None:
    rng = np.random.default_rng(0)
    shapes = [(32, 32), (1, 1), (300, 200), (32, 32), (1, 500), (500, 1), (64, 65), (300, 200)]
    pictures = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    together = measure([grid_of(picture) for picture in pictures])
    for picture, properties in zip(pictures, together, strict=True):
        assert properties == pytest.approx(measured(picture), rel=1e-6)
        assert properties.size == picture.shape[0] * picture.shape[1]


def test_thumbnails_are_small_webp_and_never_enlarged() -> None:
    large = Image.open(io.BytesIO(thumbnail(smooth(400, 200))))
    small = Image.open(io.BytesIO(thumbnail(smooth(32, 20))))
    assert (large.format, large.size, small.size) == ("WEBP", (160, 80), (32, 20))
