"""What a person says about images: a CSV that gives each a group, and perhaps a label."""

import csv
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError

OUTLIER = "ood"  # as a label: reviewed, and none of the classes


@dataclass(frozen=True, slots=True)
class GroupLine:
    """One image, by its file or by its message's id."""

    label: str | None
    group: str


def read_groups(path: Path, key: str) -> dict[str, GroupLine]:
    """Lines by the column `key`, of a CSV with the columns `key`, `group` and perhaps `label`.

    Raises UsageError for a missing column, and for a key that is given twice.
    """
    found: dict[str, GroupLine] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            for column in (key, "group"):
                if column not in (reader.fieldnames or ()):
                    has = ", ".join(reader.fieldnames or ()) or "nothing"
                    raise UsageError(f"{path}: no column {column!r}; it has {has}, and needs {key}, group and label")
            for number, row in enumerate(reader, start=2):
                name = row[key]
                if name in found:
                    raise UsageError(f"{path}, line {number}: {key} {name!r} is given twice; leave one line of it")
                found[name] = GroupLine(row.get("label") or None, row["group"] or "")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: {error}") from error
    if not found:
        raise UsageError(f"{path}: no line below the header")
    return found
