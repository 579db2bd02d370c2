"""Model packages in the database: written once, never changed, read in pieces."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

from sqlalchemy import Connection, Row, delete, insert, or_, select

from pipeline.errors import UsageError
from pipeline.storage.conflicts import insert_or
from pipeline.storage.model_schema import ModelChunkRow, ModelPackageRow

#: Of an archive, in one row.
CHUNK_BYTES = 4 * 2**20
_FEWEST_DIGITS = 6  # of a hash, to name a package by


@dataclass(frozen=True, slots=True)
class RegisteredPackage:
    """What the registry knows of a package."""

    hash: str  # sha256 of the archive, hexadecimal
    name: str
    model_id: str
    version: str
    classes: tuple[str, ...]
    parent: str | None
    repair: dict[str, Any] | None
    size: int  # bytes
    registered_at: datetime
    registered_by: str

    def __str__(self) -> str:
        """What a person needs to tell it from others."""
        return f"{self.name} ({self.model_id}, package {self.hash[:12]})"


def save_package(conn: Connection, package: RegisteredPackage, archive: IO[bytes]) -> bool:
    """Store a package with its archive, read from its beginning to its end; False where it is stored already."""
    values = {field: getattr(package, field) for field in RegisteredPackage.__slots__}
    stored = conn.scalar(
        insert_or(conn, ModelPackageRow)
        .values(**values | {"classes": list(package.classes)})
        .on_conflict_do_nothing()
        .returning(ModelPackageRow.hash)
    )
    if stored is None:
        return False
    _write(conn, package.hash, archive)
    return True


def mend_archive(conn: Connection, package: str, archive: IO[bytes]) -> None:
    """Write the archive of a stored package anew: what is there is not what its hash says."""
    conn.execute(delete(ModelChunkRow).where(ModelChunkRow.hash == package))
    _write(conn, package, archive)


def read_archive(conn: Connection, package: str) -> Iterator[bytes]:
    """The archive of the package with this hash, piece by piece; nothing where there is none."""
    chunk = select(ModelChunkRow.content).where(ModelChunkRow.hash == package)
    position = 0
    while (content := conn.scalar(chunk.where(ModelChunkRow.position == position))) is not None:
        yield content
        position += 1


def is_intact(conn: Connection, package: str) -> bool:
    """Whether the stored bytes are those of the hash."""
    digest = hashlib.sha256()
    for piece in read_archive(conn, package):
        digest.update(piece)
    return digest.hexdigest() == package


def package_by_hash(conn: Connection, package: str) -> RegisteredPackage:
    """The package that an event names."""
    return _package(conn.execute(select(ModelPackageRow.__table__).where(ModelPackageRow.hash == package)).one())


def find_package(conn: Connection, name: str) -> RegisteredPackage:
    """By name, model id, or at least six digits of the hash; of several with one name the newest.

    Raises UsageError where nothing is meant, or more than one by these digits.
    """
    table = ModelPackageRow.__table__
    newest = select(table).order_by(ModelPackageRow.registered_at.desc())
    named = conn.execute(
        newest.where(or_(ModelPackageRow.name == name, ModelPackageRow.model_id == name)).limit(1)
    ).one_or_none()
    if named is not None:
        return _package(named)
    digits = name.lower()
    if len(digits) >= _FEWEST_DIGITS and all(digit in "0123456789abcdef" for digit in digits):
        found = conn.execute(newest.where(ModelPackageRow.hash.startswith(digits))).all()
        if len(found) == 1:
            return _package(found[0])
        if found:
            raise UsageError(f"{name!r} begins {len(found)} hashes ({', '.join(row.hash for row in found)}); give more")
    known = ", ".join(str(package) for package in list_packages(conn))
    raise UsageError(f"no package is called {name!r}; known: {known or 'none, register one with `models register`'}")


def list_packages(conn: Connection) -> list[RegisteredPackage]:
    """All packages, oldest first."""
    order = (ModelPackageRow.registered_at, ModelPackageRow.hash)
    return [_package(row) for row in conn.execute(select(ModelPackageRow.__table__).order_by(*order))]


def _write(conn: Connection, package: str, archive: IO[bytes]) -> None:
    position = 0
    while content := archive.read(CHUNK_BYTES):
        conn.execute(insert(ModelChunkRow).values(hash=package, position=position, content=content))
        position += 1


def _package(row: Row[Any]) -> RegisteredPackage:
    values = dict(row._mapping)
    return RegisteredPackage(**values | {"classes": tuple(values["classes"])})
