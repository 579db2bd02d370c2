"""A model package as one archive: the same package gives the same bytes, and what comes out is what went in.

A tar file without times, owners and compression, of the files that a package may hold and of nothing else.
"""

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from pipeline.errors import EnvironmentFault, PackageError, RefusedError
from pipeline.models.package import (
    CODE_FILE,
    PROGRAM_FILE,
    REPAIR_FILE,
    SPEC_FILE,
    WEIGHTS_FILE,
    ModelPackage,
    load_package,
)

MAX_BYTES = 256 * 2**20
_FILES = (SPEC_FILE, CODE_FILE, WEIGHTS_FILE, PROGRAM_FILE, REPAIR_FILE)
_COPY_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive on disk, to be read from its beginning."""

    content: IO[bytes]
    hash: str  # sha256, hexadecimal
    size: int  # bytes


@contextmanager
def packed(package: ModelPackage) -> Iterator[Archive]:
    """The package as an archive, for as long as the context lasts.

    Raises RefusedError where it is too large, PackageError where a file cannot be read, EnvironmentFault where
    there is no room.
    """
    files = [package.path / name for name in _FILES if (package.path / name).is_file()]
    size = sum(file.stat().st_size for file in files)
    if size > MAX_BYTES:
        raise RefusedError(
            f"{package.path}: {size / 2**20:,.0f} MiB; the registry takes packages of up to {MAX_BYTES // 2**20} MiB."
            " Save its weights in half precision, or give the folder to each worker with --model"
        )
    with tempfile.TemporaryFile() as content:
        try:
            with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for file in files:
                    _add(tar, file)
            size = content.tell()
            content.seek(0)
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            content.seek(0)
        except OSError as error:
            raise EnvironmentFault(f"{package.path}: {error.strerror or error}; free some space for a copy") from error
        yield Archive(content, digest, size)


def unpack(pieces: Iterable[bytes], expected: str, out: Path) -> ModelPackage:
    """Write the package of an archive to `out`, which must not exist; nothing is left half-written.

    Raises RefusedError where the bytes are not those of the hash or hold what no package holds, EnvironmentFault
    where there is no room.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".part-", dir=out.parent))
    except OSError as error:
        raise EnvironmentFault(f"{out.parent}: {error.strerror}; name another place with OODWATCH_STATE_DIR") from error
    try:
        with tempfile.TemporaryFile() as content:
            _collect(pieces, expected, content)
            with tarfile.open(fileobj=content, mode="r:") as tar:
                for member in tar:
                    _extract(tar, member, partial, expected)
        package = load_package(partial)
        partial.rename(out)
    except tarfile.TarError as error:
        raise RefusedError(f"package {expected[:12]} is no archive ({error}); register it again") from error
    except OSError as error:
        if not out.exists():  # else another process has just written the same
            raise EnvironmentFault(f"{out}: {error.strerror or error}; free some space") from error
        return load_package(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(package, path=out)


def _add(tar: tarfile.TarFile, file: Path) -> None:
    try:
        with file.open("rb") as content:
            member = tarfile.TarInfo(file.name)
            member.size = file.stat().st_size
            member.mode = 0o644
            tar.addfile(member, content)
    except OSError as error:
        raise PackageError(f"{file}: {error.strerror or error}; package the model again") from error


def _collect(pieces: Iterable[bytes], expected: str, content: IO[bytes]) -> None:
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += content.write(piece)
    if digest.hexdigest() != expected:
        raise RefusedError(
            f"package {expected[:12]} is corrupt: {size:,} bytes with sha256 {digest.hexdigest()[:12]}; register it"
            " again from its folder"
        )
    content.seek(0)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, expected: str) -> None:
    """Plain files with known names: no path leads out of the folder, and no link."""
    source = tar.extractfile(member) if member.isreg() and member.name in _FILES else None
    if source is None or member.size > MAX_BYTES:
        raise RefusedError(
            f"package {expected[:12]} holds {member.name!r}, which is no part of a model package; it was not made by"
            " `oodwatch models register`"
        )
    with source, (folder / member.name).open("wb") as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)
