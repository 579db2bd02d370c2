"""oodwatch export samples."""

import csv
import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from pipeline.ingest.spool import Retention
from tests.integration.typing_commands import Command
from tests.tiny import make_deployment, png

WINDOW = ("--from", "2020-01-01T00:00Z", "--to", "2100-01-01T00:00Z", "--which", "all")


def test_samples_are_written_with_the_originals_that_the_log_still_holds(command: Command, tmp_path: Path) -> None:
    site = make_deployment(tmp_path / "site")
    site.produce([png(i) for i in range(12)])
    site.drain()
    out = tmp_path / "samples.zip"
    words = ("export", "samples", "--database", site.database, "--out", str(out), *WINDOW)
    assert command(*words).code == 0
    with zipfile.ZipFile(out) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("manifest.csv").decode())))
        assert {row["picture"] for row in rows} == {"thumbnail"}
        assert len(archive.namelist()) == len(rows) + 2 > 4
    spool = site.spool()
    spool.apply_retention(Retention(max_bytes=6 * len(png(0))), now=datetime.now(UTC))
    spool.close()
    assert command(*words, "--source", site.source, "--segment", "default").code == 0
    with zipfile.ZipFile(out) as archive:
        again = list(csv.DictReader(io.StringIO(archive.read("manifest.csv").decode())))
        pictures = {int(row["offset"]): row["picture"] for row in again}
        assert {picture for offset, picture in pictures.items() if offset >= 7} == {"original"}
        assert {picture for offset, picture in pictures.items() if offset < 4} == {"thumbnail"}


def test_an_unknown_segment_is_refused_with_those_that_are_known(command: Command, tmp_path: Path) -> None:
    site = make_deployment(tmp_path / "site")
    site.produce([png(1)])
    site.drain()
    words = ("export", "samples", "--database", site.database, "--out", str(tmp_path / "a.zip"), *WINDOW)
    backwards = ("--from", "2026-01-03T00:00Z", "--to", "2026-01-02T00:00Z")
    command(*words, *backwards).refuses(2, "must lie before")
    ran = command(*words, "--segment", "gone")
    assert ran.code == 2
    assert "known are default" in ran.err
    assert not (tmp_path / "a.zip").exists()
