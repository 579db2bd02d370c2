from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.ingest.image_files import find_images, find_regular_files, read_manifest
from pipeline.ingest.produce import ProducePlan, messages, send
from pipeline.ingest.source import NewRecord


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.JPG", "b/1.png", "a/x.webp", "a/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def headers(record: NewRecord) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers}


def test_images_are_found_by_suffix_and_everything_on_request(folder: Path) -> None:
    assert [file.relative for file in find_images([folder])] == ["a/x.webp", "b/1.png", "b/2.JPG"]
    assert len(find_regular_files([folder])) == 4
    assert [file.relative for file in find_images([folder / "a/notes.txt"])] == ["notes.txt"]
    with pytest.raises(UsageError, match="no such file"):
        find_images([folder / "nowhere"])


def test_headers_say_id_segment_label_hash_and_event_time(folder: Path) -> None:
    plan = ProducePlan(
        segment_from_folder=True,
        label_from_folder=True,
        repeat=2,
        start=datetime(2026, 1, 1, tzinfo=UTC),
        interval_s=30,
    )
    sent = [headers(record) for record in messages(find_images([folder]), plan)]
    assert [line["id"] for line in sent][:4] == ["a/x.webp", "b/1.png", "b/2.JPG", "a/x.webp#2"]
    assert [line["segment"] for line in sent[:3]] == ["a", "b", "b"]
    assert sent[1]["label"] == "b"
    assert sent[1]["content-type"] == "image/png"
    assert sent[2]["ce_time"] == "2026-01-01T00:01:00Z"
    assert len(sent[0]["sha256"]) == 64


def test_a_file_that_vanished_is_reported_and_the_others_are_sent(folder: Path) -> None:
    files = find_images([folder])
    (folder / "b/1.png").unlink()
    failed: list[str] = []
    sent = list(messages(files, ProducePlan(), on_failure=lambda file, why: failed.append(file)))
    assert len(sent) == 2
    assert [Path(name).name for name in failed] == ["1.png"]


def test_a_rate_is_kept_by_an_absolute_schedule() -> None:
    now = [0.0]
    batches: list[int] = []

    def append(records: Sequence[NewRecord]) -> list[tuple[int, int] | None]:
        batches.append(len(records))
        now[0] += 0.01  # appending takes time, too
        return [(0, i) for i in range(len(records))]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    records = [NewRecord(b"x")] * 1000
    result = send(records, append, rate=100.0, clock=lambda: now[0], sleep=sleep)
    assert result.sent == 1000
    assert result.seconds == pytest.approx(10.0, abs=0.02)
    assert max(batches) == 5


def test_a_refused_record_does_not_count_as_sent() -> None:
    def append(records: Sequence[NewRecord]) -> list[tuple[int, int] | None]:
        return [None if record.value == b"refused" else (0, i) for i, record in enumerate(records)]

    records = [NewRecord(b"ok"), NewRecord(b"refused"), NewRecord(b"fine")]
    result = send(records, append, rate=None, clock=lambda: 0.0, sleep=lambda s: None)
    assert (result.sent, result.bytes) == (2, 6)


def test_a_manifest_names_files_relative_to_itself(folder: Path) -> None:
    manifest = folder / "m.csv"
    manifest.write_text("file,label\nb/1.png,cat\na/x.webp,\n")
    assert read_manifest(manifest) == [(folder / "b/1.png", "cat"), (folder / "a/x.webp", None)]
    manifest.write_text("file\nb/none.png\n")
    with pytest.raises(UsageError, match="line 2"):
        read_manifest(manifest)
    manifest.write_text("path\nx\n")
    with pytest.raises(UsageError, match="no column 'file'"):
        read_manifest(manifest)


def test_a_file_name_that_is_not_utf8_gives_a_header_that_is(tmp_path: Path) -> None:
    (tmp_path / "bad\udcff.png").write_bytes(b"x")
    (record,) = messages(find_regular_files([tmp_path]), ProducePlan())
    assert headers(record)["id"] == "bad\\udcff.png"
