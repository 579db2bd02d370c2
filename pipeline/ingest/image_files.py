"""Which files a person means by a folder, a file or a manifest."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from pipeline.errors import UsageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".npy"})


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, how it was named, and what its path says."""

    path: Path
    name: str  # as given, with '/'
    relative: str  # below the argument that led to it, with '/'

    @property
    def parent(self) -> str:
        """The parent folder's name."""
        return self.path.parent.name


def find_images(paths: Sequence[Path]) -> list[FoundFile]:
    """Folders recursively by image suffix, a named file always; sorted by name.

    Raises UsageError for a path that does not exist or a folder that cannot be read.
    """
    return _find(paths, lambda name: os.path.splitext(name)[1].lower() in SUFFIXES)


def find_regular_files(paths: Sequence[Path]) -> list[FoundFile]:
    """Every regular file, whatever its suffix: what is no image shall end as a dead letter."""
    return _find(paths, lambda name: True)


def read_manifest(path: Path) -> list[tuple[Path, str | None]]:
    """(file, label) of a CSV with a column `file` and perhaps `label`; relative to the CSV's folder.

    Raises UsageError that names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if "file" not in (reader.fieldnames or ()):
                raise UsageError(f"{path}: no column 'file'; it has {', '.join(reader.fieldnames or ()) or 'nothing'}")
            rows = [(line, row["file"], row.get("label") or None) for line, row in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: {error}") from error
    if not rows:
        raise UsageError(f"{path}: no line below the header")
    files = [(path.parent / name, label) for _, name, label in rows]
    for (line, name, _), (file, _) in zip(rows, files, strict=True):
        if not file.is_file():
            raise UsageError(f"{path}, line {line}: there is no file {name!r}")
    return files


def labelled_images(images: Path) -> list[tuple[Path, str | None]]:
    """(file, label) of a folder or of a CSV; in a folder of class folders, the folder's name is the label.

    Raises UsageError where there is no image.
    """
    if images.suffix.lower() == ".csv":
        return read_manifest(images)
    files = find_images([images])
    if not files:
        raise UsageError(
            f"{images}: no image in it (.jpg, .png, .webp, .bmp, .tif, .npy); name a folder of images or a CSV"
        )
    folders = {file.path.parent for file in files}
    labelled = images.is_dir() and images not in folders
    return [(file.path, file.path.parent.name if labelled else None) for file in files]


def label_index(label: str | None, classes: Sequence[str]) -> int | None:
    """The class that a label means, by name or else by number; None where it means none."""
    if label is None:
        return None
    if label in classes:
        return classes.index(label)
    return int(label) if label.isdecimal() and int(label) < len(classes) else None


def _find(paths: Sequence[Path], wanted: Callable[[str], bool]) -> list[FoundFile]:
    """Strings rather than paths for as long as possible: a folder may hold millions of files."""
    found: list[FoundFile] = []
    for argument in paths:
        name = argument.as_posix()
        if argument.is_dir():
            inside = (relative for relative in _walk(name) if wanted(relative))
            found += [FoundFile(argument / relative, f"{name}/{relative}", relative) for relative in inside]
        elif argument.exists() and not argument.is_file():
            raise UsageError(f"{argument}: is no regular file")
        elif argument.exists():
            found.append(FoundFile(argument, name, argument.name))
        else:
            raise UsageError(f"{argument}: there is no such file or folder")
    return sorted(found, key=attrgetter("name"))


def _walk(folder: str, below: str = "") -> Iterator[str]:
    """Regular files below a folder, relative to it; links to folders are not followed, so there are no loops."""
    try:
        with os.scandir(f"{folder}/{below}") as entries:
            inside = list(entries)
    except OSError as error:
        raise UsageError(f"{Path(error.filename)}: {error.strerror}; make the folder readable") from error
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, f"{below}{entry.name}/")
        elif entry.is_file():
            yield f"{below}{entry.name}"
