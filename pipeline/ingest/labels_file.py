"""Files of ground truth: CSV with the columns `id` and `label`, or one JSON object a line. Read line by line."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from pipeline.errors import UsageError

_COLUMNS = ("id", "label")


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """One line that can be used."""

    id: str
    label: str


@dataclass(frozen=True, slots=True)
class BadLine:
    """One that cannot, and why."""

    line: int
    why: str


def read_labels(lines: Iterable[str]) -> Iterator[GivenLabel | BadLine]:
    """All lines in order; empty ones are passed over.

    Raises UsageError where a CSV file does not name its columns.
    """
    rest = iter(lines)
    first = next((line for line in rest if line.strip()), None)
    if first is None:
        return
    everything = chain([first.removeprefix("\ufeff")], rest)
    yield from _json_lines(everything) if first.lstrip("\ufeff \t").startswith("{") else _csv_lines(everything)


def _json_lines(lines: Iterable[str]) -> Iterator[GivenLabel | BadLine]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            yield BadLine(number, f"no JSON: {error}")
            continue
        known = value if isinstance(value, dict) else {}
        yield _checked(number, known.get("id"), known.get("label"))


def _csv_lines(lines: Iterable[str]) -> Iterator[GivenLabel | BadLine]:
    rows = csv.DictReader(lines)
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise UsageError(
            f"the first line names no column {' and no column '.join(missing)}; write `id,label` there, or one JSON"
            ' object a line, as {"id": "cam-7/0042.jpg", "label": "cat"}'
        )
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield BadLine(rows.line_num, f"no CSV: {error}")
            continue
        if row is None:
            return
        yield _checked(rows.line_num, row["id"], row["label"])


def _checked(number: int, key: object, label: object) -> GivenLabel | BadLine:
    for name, value in (("id", key), ("label", label)):
        if not isinstance(value, str) or not value or "\0" in value:
            return BadLine(number, f"{name} = {value!r}: write a text that is not empty")
    return GivenLabel(str(key), str(label))
