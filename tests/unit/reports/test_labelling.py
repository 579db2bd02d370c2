"""Samples in a zip for labelling: safe names, whole lists, the same bytes again."""

import csv
import io
import json
import re
import zipfile
from dataclasses import replace
from typing import Any

import pytest

from pipeline.ingest.thumbnail import as_png, thumbnail
from pipeline.reports.labelling import Chosen, choose, labelling_zip
from pipeline.storage.reviews import ReviewLine
from pipeline.storage.sample_pages import Picture
from tests.faults.scored import NOW
from tests.tiny import pixels

CLASSES = ("cat", "dog")


def sample(key: int, **values: Any) -> Picture:
    given: dict[str, Any] = {
        "id": key,
        "segment": "cam/1",
        "kind": "strange",
        "event_time": NOW,
        "class_index": 1,
        "energy": -3.5,
        "score": -3.25,
        "msp": 0.5,
        "is_ood": True,
        "label": None,
        "name": '=evil,\n"id"',
        "topic": "images",
        "partition": 2,
        "offset": 100 + key,
        "thumbnail": thumbnail(pixels(key)),
        "support": 0.25,
    }
    return Picture(**(given | values))


def opened(content: bytes) -> tuple[list[str], list[dict[str, str]], dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        rows = list(csv.DictReader(io.StringIO(archive.read("manifest.csv").decode(), newline="")))
        return archive.namelist(), rows, json.loads(archive.read("annotations.json"))


def test_images_manifest_and_coco_name_the_same_files_and_say_what_was_known() -> None:
    said = {7: ReviewLine("shift", "ann", NOW)}
    chosen = choose([sample(7), sample(9, class_index=5)], CLASSES, said, {9: as_png(pixels(9), None)})
    names, rows, coco = opened(labelling_zip(chosen, CLASSES))
    files = ["images/images-2-000000000107-7.webp", "images/images-2-000000000109-9.png"]
    assert names == ["manifest.csv", "annotations.json", *files]
    assert [row["file"] for row in rows] == [image["file_name"] for image in coco["images"]] == files
    assert [(row["picture"], row["predicted"], row["verdict"]) for row in rows] == [
        ("thumbnail", "dog", "shift"),
        ("original", "?", ""),
    ]
    assert rows[0]["id"] == '=evil,\n"id"'
    assert coco["annotations"] == []
    assert [(one["id"], one["name"]) for one in coco["categories"]] == [(1, "cat"), (2, "dog")]
    assert [(one["width"], one["height"]) for one in coco["images"]] == [(8, 8), (8, 8)]
    assert coco["images"][0]["attributes"]["predicted"] == "dog"
    assert coco["images"][0]["attributes"]["energy"] == -3.5


def test_the_same_samples_give_the_same_bytes_in_whatever_order() -> None:
    chosen = [Chosen(sample(key), "dog", "") for key in (3, 1, 2)]
    assert labelling_zip(chosen, CLASSES) == labelling_zip(chosen[::-1], CLASSES)


@pytest.mark.parametrize("topic", ["../../etc/passwd", "a\\b:c", "x" * 300, "\x00\n名"])
def test_no_name_leads_out_of_the_folder(topic: str) -> None:
    (names, *_) = opened(labelling_zip([Chosen(sample(1, topic=topic), "dog", "")], CLASSES))
    assert re.fullmatch(r"images/[A-Za-z0-9_-]{1,120}\.webp", names[-1])


def test_two_samples_never_share_a_file() -> None:
    twins = [Chosen(sample(key, topic=topic, offset=5), "dog", "") for key, topic in enumerate(("a.b", "a b"))]
    assert len({one.file for one in twins}) == 2


def test_what_has_no_picture_is_in_the_manifest_alone() -> None:
    bare = Chosen(sample(1, thumbnail=None), "dog", "")
    names, rows, coco = opened(labelling_zip([bare, replace(bare, sample=sample(2))], CLASSES))
    assert [(row["file"] != "", row["picture"], row["width"]) for row in rows] == [
        (False, "", ""),
        (True, "thumbnail", "8"),
    ]
    assert len(names) == 3
    assert [image["id"] for image in coco["images"]] == [2]
