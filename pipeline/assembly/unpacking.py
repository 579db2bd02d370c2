"""Registered packages as folders on this machine."""

import os
import shutil
from pathlib import Path

from sqlalchemy import Engine

from pipeline.errors import PackageError, RefusedError
from pipeline.models.archive import unpack
from pipeline.models.package import load_package
from pipeline.settings import Settings, load_settings
from pipeline.storage.engine import reading, translated_errors
from pipeline.storage.packages import package_by_hash, read_archive

_KEPT = 3  # folders: a roll-back then reads nothing


def unpacked(engine: Engine, package: str, home: Path) -> Path:
    """The folder of a registered package, verified; written where it is not there yet.

    Raises RefusedError where it is corrupt, EnvironmentFault where there is no room.
    """
    folder = home / package
    with translated_errors(engine.url), reading(engine).connect() as conn:
        registered = package_by_hash(conn, package)
        if _model_id(folder) != registered.model_id:
            shutil.rmtree(folder, ignore_errors=True)
            unpack(read_archive(conn, package), package, folder)
    if _model_id(folder) != registered.model_id:
        raise RefusedError(
            f"package {package[:12]} holds {_model_id(folder)}, not {registered.model_id}; register it again"
        )
    os.utime(folder)
    for old in sorted(home.iterdir(), key=lambda entry: entry.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def with_model(settings: Settings, path: Path) -> Settings:
    """The same settings for another package."""
    return load_settings(**{**dict(settings), "model": path})


def _model_id(folder: Path) -> str | None:
    """Of the package in a folder, by its content; None where there is none, or only half of one."""
    try:
        return load_package(folder).model_id
    except PackageError:
        return None
