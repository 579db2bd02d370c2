"""Every kind of record that a log can carry, as first, middle and last of a batch and as a whole batch."""

import hashlib
import io
import random
import sqlite3
import struct
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from pipeline.ingest.decode import DecodeLimits, decode
from pipeline.ingest.source import NewRecord
from pipeline.models.classifier import Classifier
from pipeline.models.package import load_package
from pipeline.models.preprocessing import fit
from pipeline.scoring.energy import score_logits
from tests.tiny import Deployment, png

PLACES = ("first", "middle", "last", "whole batch")
BATCH = 16
Headers = tuple[tuple[str, bytes | None], ...]


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    out = io.BytesIO()
    (image if mode == "RGB" else image.convert(mode)).save(out, kind, **options)
    return out.getvalue()


def blank(kind: str, mode: str, side: int) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (side, side)).save(out, kind)
    return out.getvalue()


def deep(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(out, kind)
    return out.getvalue()


def saved(array: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(array), allow_pickle=True)
    return out.getvalue()


def flipped(value: bytes) -> bytes:
    """A JPEG whose compressed data has one wrong bit: it decodes, to other pixels."""
    damaged = bytearray(value)
    damaged[len(value) * 3 // 4] ^= 0x04
    return bytes(damaged)


def wide_jpeg() -> bytes:
    """A small JPEG whose header claims 65,000 x 65,000 pixels."""
    value = bytearray(encoded("JPEG"))
    frame = value.index(b"\xff\xc0")
    value[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    return bytes(value)


JPEG, PNG, WEBP = encoded("JPEG"), encoded("PNG"), encoded("WEBP")
SHA = (("sha256", hashlib.sha256(JPEG).hexdigest().encode()),)
NPY = (("content-type", b"application/x-npy"),)


@dataclass(frozen=True)
class Case:
    value: bytes | None
    headers: Headers = ()


BAD: dict[str, tuple[Case, str]] = {
    "empty": (Case(b""), "empty"),
    "tombstone": (Case(None), "tombstone"),
    "one byte": (Case(b"\xff"), "undecodable"),
    "text": (Case(b"hello, I am no image"), "undecodable"),
    "random bytes": (Case(random.Random(1).randbytes(3000)), "undecodable"),
    "a PNG's first 20 bytes": (Case(PNG[:20]), "undecodable"),
    "a JPEG's first 20 bytes": (Case(JPEG[:20]), "undecodable"),
    "half a JPEG": (Case(JPEG[: len(JPEG) // 2]), "undecodable"),
    "a JPEG without its last 4 bytes": (Case(JPEG[:-4]), "undecodable"),
    "half a PNG": (Case(PNG[: len(PNG) // 2]), "undecodable"),
    "half a WebP": (Case(WEBP[: len(WEBP) // 2]), "undecodable"),
    "half an array": (Case(saved(np.zeros((8, 8), np.uint8))[:150], NPY), "undecodable"),
    "a bomb above Pillow's limit": (Case(blank("PNG", "1", 20_000)), "too_many_pixels"),
    "a bomb below Pillow's limit": (Case(blank("PNG", "1", 9_000)), "too_many_pixels"),
    "a JPEG's header of 4 gigapixels": (Case(wide_jpeg()), "too_many_pixels"),
    "16-bit grey PNG": (Case(deep("PNG")), "bad_shape"),
    "16-bit grey TIFF": (Case(deep("TIFF")), "bad_shape"),
    "floating-point TIFF": (Case(blank("TIFF", "F", 8)), "bad_shape"),
    "an array of floats": (Case(saved(np.zeros((8, 8), np.float32)), NPY), "bad_shape"),
    "an array of two channels": (Case(saved(np.zeros((8, 8, 2), np.uint8)), NPY), "bad_shape"),
    "an array of objects": (Case(saved(np.array([{}], object)), NPY), "bad_shape"),
    "a GIF": (Case(encoded("GIF", "P")), "unknown_type"),
    "a PDF": (Case(b"%PDF-1.7" + bytes(50)), "unknown_type"),
    "above the byte limit": (Case(b"\xff\xd8\xff" + bytes(2_000_000)), "too_large"),
    "unknown content type": (Case(PNG, (("content-type", b"application/json"),)), "unknown_type"),
    "an image by reference": (Case(PNG, (("ce_dataref", b"s3://bucket/image"),)), "unknown_type"),
    "a sampling weight": (Case(PNG, (("ce_sampledrate", b"10"),)), "unknown_type"),
    "a bit flip, declared hash": (Case(flipped(JPEG), SHA), "checksum"),
    "the hash of another image": (Case(PNG, SHA), "checksum"),
    "sha256 is no hash": (Case(PNG, (("sha256", b"abc"),)), "bad_header"),
    "segment is not UTF-8": (Case(PNG, (("segment", b"\xff\xfe"),)), "bad_header"),
    "control characters": (Case(PNG, (("id", b"a\x00b"),)), "bad_header"),
    "a label of 5,000 bytes": (Case(PNG, (("label", b"x" * 5000),)), "bad_header"),
    "drill is no switch": (Case(PNG, (("drill", b"maybe"),)), "bad_header"),
    "event time before the horizon": (Case(PNG, (("ce_time", b"1999-01-01T00:00:00Z"),)), "too_old"),
}

#: Odd, and scored: decoding cannot see what is wrong with them, or nothing is.
ODD: dict[str, Case] = {
    "a bit flip, no hash": Case(flipped(JPEG)),
    "CMYK JPEG": Case(encoded("JPEG", "CMYK")),
    "grey JPEG": Case(encoded("JPEG", "L")),
    "progressive JPEG": Case(encoded("JPEG", progressive=True)),
    "JPEG with a tail": Case(JPEG + b"tail"),
    "palette PNG": Case(encoded("PNG", "P")),
    "1-bit PNG": Case(encoded("PNG", "1")),
    "grey PNG with alpha": Case(encoded("PNG", "LA")),
    "WebP with alpha": Case(encoded("WEBP", "RGBA", lossless=True)),
    "1x1 PNG": Case(encoded("PNG", size=(1, 1))),
    "1x1 JPEG": Case(encoded("JPEG", size=(1, 1))),
    "500x1 PNG": Case(encoded("PNG", size=(500, 1))),
    "BMP": Case(encoded("BMP")),
    "TIFF": Case(encoded("TIFF")),
    "a JPEG that says it is a PNG": Case(JPEG, (("content-type", b"image/png"),)),
    "a clock a thousand years ahead": Case(JPEG, (("ce_time", b"3025-01-01T00:00:00Z"),)),
    "an unreadable clock": Case(JPEG, (("ce_time", b"yesterday"),)),
    "headers nobody knows": Case(JPEG, (("x-\xe9", b"\xff"), ("x-none", None), ("x-long", b"y" * 9999))),
}


def send(deployment: Deployment, cases: dict[str, Case], place: str) -> dict[int, str]:
    """Batches of 16, each with one case in its place or of nothing else; return the case at each offset."""
    at = {"first": 0, "middle": BATCH // 2, "last": BATCH - 1}.get(place)
    spool = deployment.spool()
    sent: dict[int, str] = {}
    offset = 0
    for name, case in cases.items():
        record = NewRecord(case.value, headers=case.headers)
        batch = [record if at is None or i == at else NewRecord(png(i)) for i in range(BATCH)]
        spool.append(batch)
        sent |= {offset + i: name for i, item in enumerate(batch) if item is record}
        offset += BATCH
    spool.close()
    return sent


def rows(deployment: Deployment, statement: str) -> dict[int, object]:
    connection = sqlite3.connect(deployment.home / "oodwatch.db")
    found = dict(connection.execute(statement).fetchall())
    connection.close()
    return found


@pytest.mark.parametrize("place", PLACES)
def test_bad_records_become_dead_letters_with_their_reason_and_their_neighbours_are_scored(
    deployment: Deployment, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODWATCH_LIMITS__MAX_BYTES", "2000000")
    sent = send(deployment, {name: case for name, (case, _) in BAD.items()}, place)
    progress = deployment.drain()
    assert rows(deployment, "SELECT offset, reason FROM dead_letter") == {at: BAD[name][1] for at, name in sent.items()}
    scored = rows(deployment, "SELECT offset, energy FROM score")
    assert scored.keys() == set(range(BATCH * len(BAD))) - sent.keys()
    assert (progress.scored, progress.dead) == (len(scored), len(sent))


@pytest.mark.parametrize("place", PLACES)
def test_odd_records_are_scored_as_their_decoded_pixels_are(deployment: Deployment, place: str) -> None:
    sent = send(deployment, ODD, place)
    progress = deployment.drain()
    assert (progress.scored, progress.dead) == (BATCH * len(ODD), 0)
    classifier = Classifier(load_package(deployment.model))
    shape = classifier.package.spec.preprocessing
    energies = rows(deployment, "SELECT offset, energy FROM score")
    for at, name in sent.items():
        pixels = decode(ODD[name].value or b"", None, limits=DecodeLimits())
        alone = score_logits(classifier.predict(np.stack([fit(pixels, shape)])))
        assert energies[at] == pytest.approx(alone.energy[0], abs=1e-5), name


def test_a_bit_flip_gives_other_pixels_and_only_the_declared_hash_tells() -> None:
    one, other = (decode(value, None, limits=DecodeLimits()) for value in (JPEG, flipped(JPEG)))
    assert one.shape == other.shape
    assert (one != other).any()


@pytest.mark.parametrize(("magic", "reason"), [("nan", "not_finite"), ("raise", "crash"), ("oom", "oom")])
@pytest.mark.parametrize("place", PLACES)
def test_images_that_the_model_cannot_take_are_isolated(
    deployment: Deployment, place: str, magic: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_MAGIC", magic)
    before, after = ({name: Case(png(i)) for i, name in enumerate(names)} for names in ("ab", "cd"))
    sent = send(deployment, {**before, "magic": Case(png(0, magic=True)), **after}, place)
    culprits = {at for at, name in sent.items() if name == "magic"}
    deployment.drain()
    assert rows(deployment, "SELECT offset, reason FROM dead_letter") == dict.fromkeys(culprits, reason)
    assert rows(deployment, "SELECT offset, offset FROM score").keys() == set(range(5 * BATCH)) - culprits


def test_a_record_whose_headers_are_refused_is_still_found_by_the_id_and_segment_that_they_claim(
    deployment: Deployment,
) -> None:
    spool = deployment.spool(1)
    spool.append([NewRecord(png(1), headers=(("id", b"front\0door"), ("segment", b"s" * 300)))])
    spool.append([NewRecord(None, headers=(("ce_id", b"7"), ("segment", b"yard")))])
    spool.close()
    deployment.drain()
    claims = {0: ("front\ufffddoor", "s" * 200), 1: ("7", "yard")}
    assert rows(deployment, "SELECT offset, id FROM dead_letter") == {at: name for at, (name, _) in claims.items()}
    assert rows(deployment, "SELECT offset, segment FROM dead_letter") == {at: part for at, (_, part) in claims.items()}


def test_three_hundred_records_with_random_headers_are_all_accounted_for(deployment: Deployment) -> None:
    rng = random.Random(3)
    names = (
        "content-type",
        "segment",
        "id",
        "label",
        "sha256",
        "drill",
        "ce_id",
        "ce_source",
        "ce_time",
        "X-Other",
        "",
    )
    texts = (b"", b"1", b"image/png", b"a" * 300, b"2026-01-01T00:00:00Z", b"\xff", b"\x00", b"\xe2\x82\xac", None)
    spool = deployment.spool()
    for i in range(300):
        headers = tuple(
            (rng.choice(names), rng.choice((*texts, rng.randbytes(rng.randrange(40))))) for _ in range(rng.randrange(6))
        )
        spool.append([NewRecord(png(i % 20), headers=headers)])
    spool.close()
    progress = deployment.drain()
    assert progress.scored + progress.dead == 300
    dead = rows(deployment, "SELECT offset, reason FROM dead_letter")
    assert set(dead.values()) == {"bad_header", "unknown_type"}
    assert rows(deployment, "SELECT offset, offset FROM score").keys() == set(range(300)) - dead.keys()
