"""Chosen samples as a zip for whoever labels them: a folder of images, manifest.csv, and COCO without annotations.

The same samples give the same bytes: nothing in it depends on when or where it was made.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipeline.storage.reviews import ReviewLine
from pipeline.storage.sample_pages import Picture

MANIFEST, COCO, IMAGES = "manifest.csv", "annotations.json", "images"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # a zip knows no earlier time
_COLUMNS = (
    *("file", "picture", "width", "height", "segment", "id", "event_time", "predicted", "energy", "score", "msp"),
    *("is_ood", "support", "label", "verdict", "topic", "partition", "offset"),
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sample as it goes into the zip."""

    sample: Picture
    predicted: str  # the class that the model saw in it
    verdict: str  # what a person said of it; empty: nothing
    original: bytes | None = None  # PNG, where the log still has it

    @property
    def image(self) -> bytes | None:
        """The best picture at hand."""
        return self.original or self.sample.thumbnail or None

    @property
    def file(self) -> str:
        """A name that is safe anywhere, and no other image's: where the record lies in the log."""
        one = self.sample
        topic = re.sub(r"[^A-Za-z0-9_-]+", "_", one.topic)[:80]
        suffix = "png" if self.original else "webp"
        return f"{IMAGES}/{topic}-{one.partition}-{one.offset:012}-{one.id}.{suffix}"


def choose(
    samples: Iterable[Picture],
    classes: Sequence[str],
    said: Mapping[int, ReviewLine],
    originals: Mapping[int, bytes] | None = None,
) -> list[Chosen]:
    """Samples with what is known of them: verdicts and originals by the sample's key."""
    return [
        Chosen(
            one,
            classes[one.class_index] if one.class_index < len(classes) else "?",
            (said[one.id].verdict or "") if one.id in said else "",
            (originals or {}).get(one.id),
        )
        for one in samples
    ]


def labelling_zip(chosen: Iterable[Chosen], classes: Sequence[str]) -> bytes:
    """The zip. A sample without a picture is in the manifest alone, its file empty."""
    ordered = sorted(chosen, key=lambda one: (one.sample.event_time, one.sample.topic, *_place(one)))
    sizes = {one.sample.id: _size(one.image) for one in ordered if one.image is not None}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        _add(archive, MANIFEST, _manifest(ordered, sizes).encode(), zipfile.ZIP_DEFLATED)
        _add(archive, COCO, json.dumps(_coco(ordered, classes, sizes), indent=1).encode(), zipfile.ZIP_DEFLATED)
        for one in ordered:
            if one.image is not None:
                _add(archive, one.file, one.image, zipfile.ZIP_STORED)  # is compressed already
    return out.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes, how: int) -> None:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.compress_type = how
    entry.create_system = 3  # as on Unix, wherever it is made
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _manifest(chosen: Sequence[Chosen], sizes: Mapping[int, tuple[int, int]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS)
    writer.writeheader()
    for one in chosen:
        width, height = sizes.get(one.sample.id, ("", ""))
        writer.writerow(
            _values(one)
            | {"file": one.file if one.image is not None else "", "width": width, "height": height}
            | {"picture": "" if one.image is None else "original" if one.original else "thumbnail"}
        )
    return out.getvalue()


def _coco(chosen: Sequence[Chosen], classes: Sequence[str], sizes: Mapping[int, tuple[int, int]]) -> dict[str, Any]:
    """Categories are counted from 1, as COCO's own: category = the model's class index + 1."""
    images = [
        {
            "id": one.sample.id,
            "file_name": one.file,
            "width": sizes[one.sample.id][0],
            "height": sizes[one.sample.id][1],
            "date_captured": one.sample.event_time.isoformat(),
            "attributes": _values(one),
        }
        for one in chosen
        if one.image is not None
    ]
    categories = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(classes, 1)]
    return {"info": {}, "licenses": [], "images": images, "annotations": [], "categories": categories}


def _values(one: Chosen) -> dict[str, Any]:
    sample = one.sample
    own = {name: getattr(sample, name) for name in _COLUMNS if name in Picture._fields}
    own |= {"id": sample.name, "event_time": sample.event_time.isoformat(), "is_ood": int(sample.is_ood)}
    return own | {"predicted": one.predicted, "verdict": one.verdict}


def _place(one: Chosen) -> tuple[int, int, int]:
    return one.sample.partition, one.sample.offset, one.sample.id


def _size(image: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(image), formats=["PNG", "WEBP"]) as opened:
        return opened.size
