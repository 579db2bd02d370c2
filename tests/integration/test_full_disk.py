"""A full disk: commands end with one line and leave everything as it was; the worker waits for room."""

import errno
import hashlib
import logging
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import Connection

from pipeline.assembly.working import run_worker
from pipeline.stages.rows import Entry
from pipeline.storage import engine as storage_engine
from tests.integration.typing_commands import Command, contents
from tests.tiny import Deployment, png


class Disk(Protocol):
    """A place that can be filled up."""

    home: Path

    def fill(self) -> None:
        """From now on no database on it can grow."""

    def free(self) -> None:
        """There is room again."""


class Pages:
    """SQLite's own limit: it answers as on a full disk, on any machine."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._limit = 2**31
        begin = storage_engine._begin_sqlite

        def limited(conn: Connection) -> None:
            conn.exec_driver_sql(f"PRAGMA max_page_count = {self._limit}")
            begin(conn)

        monkeypatch.setattr(storage_engine, "_begin_sqlite", limited)

    def fill(self) -> None:
        self._limit = 1

    def free(self) -> None:
        self._limit = 2**31


class Tmpfs:
    """A file system of its own, full for real."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ballast = home / "ballast"

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Tmpfs]:
    home = tmp_path / "disk"
    home.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", home], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small file system; the same is tested with SQLite's own limit")
    yield Tmpfs(home)
    subprocess.run(["umount", "-l", home], check=True)


@pytest.fixture(params=["pages", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    if request.param == "pages":
        return Pages(tmp_path, monkeypatch)
    found: Tmpfs = request.getfixturevalue("tmpfs")
    return found


class Retries(logging.Handler):
    """Frees the disk when the writer has said that it tries again: once for one trouble, however long it lasts."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            return
        self.said.append(record.getMessage())
        if len(self.said) == 1:
            self._disk.free()


def test_a_worker_waits_for_room_and_goes_on_with_nothing_lost_or_doubled(deployment: Deployment, disk: Disk) -> None:
    values = [png(i) for i in range(1500)]
    deployment.produce(list(values), partitions=2)
    database = disk.home / "worker.db"
    database.write_bytes((deployment.home / "oodwatch.db").read_bytes())
    settings = deployment.settings().model_copy(update={"database": f"sqlite:///{database}"})
    stored: list[int] = []

    def count(entry: Entry) -> None:
        stored.append(len(entry.batch.images))
        if len(stored) == 3:
            disk.fill()

    retries = Retries(disk)
    logger = logging.getLogger("pipeline.stages.retry")
    logger.addHandler(retries)
    try:
        progress = run_worker(settings, start_at="earliest", drain=True, stop=threading.Event(), on_stored=count)
    finally:
        logger.removeHandler(retries)
    assert len(retries.said) >= 1
    assert progress.database_retries >= 1
    assert all("worker.db: database or disk is full; free some space" in text for text in retries.said)
    assert (progress.scored, progress.dead, progress.fenced) == (1500, 0, 0)
    connection = sqlite3.connect(database)
    hashes = Counter(digest for (digest,) in connection.execute("SELECT value_sha256 FROM score"))
    account = connection.execute("SELECT sum(scored), sum(log_end - next_offset) FROM stream").fetchall()
    connection.close()
    assert hashes == Counter(hashlib.sha256(value).digest() for value in values)
    assert account == [(1500, 0)]


def test_a_calibration_on_a_full_disk_leaves_the_database_as_it_was(
    deployment: Deployment, disk: Disk, command: Command
) -> None:
    database = disk.home / "calibration.db"
    database.write_bytes((deployment.home / "oodwatch.db").read_bytes())
    options = ("--model", deployment.model, "--database", f"sqlite:///{database}")
    disk.fill()
    command("calibrate", deployment.home / "calibration", *options).refuses(4, "calibration.db: d", "free some space")
    disk.free()
    before = contents(disk.home)
    assert before["calibration.db"] == contents(deployment.home)["oodwatch.db"]
    assert command("calibrate", deployment.home / "calibration", *options).code == 0


def test_a_new_database_on_a_full_disk_is_not_half_migrated(disk: Disk, command: Command) -> None:
    new = disk.home / "new.db"
    disk.fill()
    command("migrate", "--database", f"sqlite:///{new}").refuses(4, "new.db: d", "free some space")
    disk.free()
    assert contents(disk.home)["new.db"] == ["BEGIN TRANSACTION;", "COMMIT;"]
    assert command("migrate", "--database", f"sqlite:///{new}").code == 0


def files_on(deployment: Deployment, home: Path) -> dict[str, tuple[Any, ...]]:
    """Commands that write something other than a database."""
    (deployment.home / "net.py").write_text((deployment.model / "model.py").read_text())
    (deployment.home / "classes.txt").write_text("red\ngreen\nblue\n")
    weights = (
        "--architecture",
        f"{deployment.home / 'net.py'}:tiny",
        "--weights",
        deployment.model / "weights.safetensors",
    )
    shape = ("--classes", deployment.home / "classes.txt", "--input-size", 8, "--mean", "0,0,0", "--std", "1,1,1")
    database = ("--database", deployment.database)
    return {
        "package": ("package", home / "package", *weights, *shape, "--head", "head"),
        "export": ("export", "scores", *database, "--out", home / "scores.csv"),
        "init": ("init", home / "oodwatch.toml"),
        "produce": ("produce", deployment.home / "calibration", "--source", f"spool:{home}/spool/images"),
    }


@pytest.mark.parametrize("name", ["package", "export", "init", "produce"])
def test_commands_on_a_full_disk_write_nothing_and_succeed_when_there_is_room(
    deployment: Deployment, tmpfs: Tmpfs, command: Command, name: str
) -> None:
    typed = files_on(deployment, tmpfs.home)[name]
    tmpfs.fill()
    command(*typed).refuses(4, str(tmpfs.home))
    tmpfs.free()
    left = {
        file: content for file, content in contents(tmpfs.home).items() if content != ["BEGIN TRANSACTION;", "COMMIT;"]
    }
    assert left == {}
    assert command(*typed).code == 0
