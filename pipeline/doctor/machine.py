"""Folders and disk space."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.finding import ENVIRONMENT, Finding
from pipeline.settings import Settings
from pipeline.storage.engine import sqlite_file

_SCARCE = 2**30  # bytes; about two million rows
_TOO_LITTLE = 100 * 2**20


def check_state_folder(settings: Settings) -> Iterator[Finding]:
    """The state directory can be written."""
    folder = settings.state_dir
    try:
        with tempfile.TemporaryFile(dir=existing(folder)):
            pass
    except OSError as error:
        cure = "give this user the right to write there, or name another with OODWATCH_STATE_DIR"
        yield Finding("state", "failed", f"{folder}: {error.strerror}", cure, ENVIRONMENT)
    else:
        yield Finding("state", "ok", f"{folder} may be written" + ("" if folder.exists() else " (made on first use)"))


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Where the state directory and a SQLite file lie, there is room to grow."""
    file = sqlite_file(settings.database_url)
    places = [settings.state_dir] + ([] if file is None else [file.parent])
    for folder in dict.fromkeys(map(existing, places)):
        yield judge_space(folder, shutil.disk_usage(folder).free)


def judge_space(folder: Path, free: int) -> Finding:
    """What so many free bytes mean."""
    found = f"{folder}: {free / 2**30:.1f} GiB free"
    cure = "free some space, or lower [retention] days and [samples] max_samples"
    if free < _TOO_LITTLE:
        return Finding("disk", "failed", found, cure, ENVIRONMENT)
    if free < _SCARCE:
        return Finding("disk", "warning", found, cure)
    return Finding("disk", "ok", found)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that there is."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
