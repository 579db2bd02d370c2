import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from pipeline.errors import UsageError
from pipeline.reports.bundle import bundle
from pipeline.stages.answering import Composer
from pipeline.stages.bundling import Gathered, gather
from pipeline.storage.alert_schema import IncidentEventRow, MarkRow
from pipeline.storage.engine import open_database, reading
from pipeline.storage.schema import SegmentRow
from tests.browser.seeded import FOGGY, NOW, ONSET, seed

EVIL = "</title><script>alert(1)</script>\x07"
COMPOSER = Composer("http://127.0.0.1:8501", 0.1, 0.25)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path_factory.mktemp('seeded')}/x.db"
    seed(url, hours=4)
    engine = open_database(url)
    yield engine
    engine.dispose()


def gathered(engine: Engine, incident: int = 2, *, pictures: bool = True) -> Gathered:
    with reading(engine).connect() as conn:
        return gather(conn, COMPOSER, incident, now=NOW, pictures=pictures)


def unpacked(packed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_the_same_evidence_makes_the_same_bytes(engine: Engine) -> None:
    first = bundle(gathered(engine))
    assert first == bundle(gathered(engine))
    assert {one.date_time for one in zipfile.ZipFile(io.BytesIO(first)).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_page_says_what_where_since_when_how_much_who_was_told_and_shows_it(engine: Engine) -> None:
    page = unpacked(bundle(gathered(engine)))["index.html"].decode()
    assert re.search(
        rf"<h1>road-users critical: unusual images on {FOGGY} since 2026-11-24 00:49Z, 3\d\.\d% flagged", page
    )
    for said in ("lens or exposure", "on-call: delivered 2026-11-24 00:57:03 UTC", "ok → critical", "deploy app 4.2"):
        assert said in page
    assert page.count("<svg") == 1
    assert page.count('src="data:image/webp;base64,') == 20
    assert re.findall(r"(?:src|href)=[\"'](?!data:)", page) == []


def test_what_the_files_say_agrees(engine: Engine) -> None:
    files = unpacked(bundle(gathered(engine)))
    told = json.loads(files["why.json"])
    rows = list(csv.DictReader(io.StringIO(files["series.csv"].decode())))
    since = [row for row in rows if row["segment"] == FOGGY and row["start"] >= f"{ONSET:%Y-%m-%dT%H:%M:%SZ}"]
    assert told["segment"] == FOGGY
    assert told["n"] == sum(int(row["n"]) for row in since)
    assert told["value"] == pytest.approx(sum(int(row["unusual"]) for row in since) / told["n"])
    manifest = list(csv.DictReader(io.StringIO(files["samples/manifest.csv"].decode())))
    assert {f"samples/{row['file']}" for row in manifest} | {"samples/manifest.csv"} == {
        name for name in files if name.startswith("samples/")
    }
    events = list(csv.DictReader(io.StringIO(files["events.csv"].decode())))
    assert events[0]["told"] == "on-call: delivered 2026-11-24 00:57:03 UTC"
    for name in ("series.csv", "events.csv", "samples/manifest.csv"):
        columns = files[name].decode().splitlines()[0].split(",")
        assert all(f"\n  {column} " in files["README.txt"].decode() for column in columns)


def test_for_who_sees_no_images_there_are_none_in_it(engine: Engine) -> None:
    files = unpacked(bundle(gathered(engine, pictures=False)))
    assert [name for name in files if name.startswith("samples/")] == ["samples/manifest.csv"]
    assert b"<img" not in files["index.html"]
    assert b"sees no images" in files["README.txt"]
    assert len(files["samples/manifest.csv"].decode().splitlines()) == 21


def test_an_incident_of_which_nothing_is_stored_any_more_is_still_told(engine: Engine) -> None:
    page = unpacked(bundle(gathered(engine, 1)))["index.html"].decode()
    assert "No image of that time is stored any more." in page
    assert "resolved by dana" in page


def test_an_incident_that_there_is_not_is_named(engine: Engine) -> None:
    with pytest.raises(UsageError, match="no incident has number 4711; the newest: 2, 1"):
        gathered(engine, 4711)


def test_names_and_notes_of_strangers_stay_text(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    seed(url, hours=1)
    engine = open_database(url)
    with engine.begin() as conn:
        conn.execute(update(SegmentRow).where(SegmentRow.name == FOGGY).values(name=EVIL))
        conn.execute(update(IncidentEventRow).values(why=EVIL, who=EVIL))
        conn.execute(update(MarkRow).values(text=EVIL))
    files = unpacked(bundle(gathered(engine)))
    engine.dispose()
    assert b"<script" not in files["index.html"]
    assert files["index.html"].count(b"<title>") == 2  # the page's and the chart's
