"""What commands print: a table for people, JSON lines for programs; progress goes to stderr."""

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text.")]
Database = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="SQLAlchemy URL. Default: a SQLite file in the state directory."),
]
Source = Annotated[str | None, typer.Option("--source", metavar="URL", help="The log, as spool:DIR/topic.")]
Deployment = Annotated[
    str | None,
    typer.Option("--deployment", metavar="NAME", help="One model on one source. Default: the model's name."),
]
Model = Annotated[
    Path | None, typer.Option("--model", metavar="DIR", help="A model package, made by `oodwatch package`.")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16 (the backbone only).")]


def print_json(line: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout; times as ISO 8601, no NaN."""
    sys.stdout.write(json.dumps({key: _plain(value) for key, value in line.items()}, ensure_ascii=False) + "\n")


def print_lines(lines: Iterable[Any], *, as_json: bool, empty: str) -> int:
    """Print dataclasses as JSON lines or as a table; return how many there were."""
    count = 0
    table: Table | None = None
    for line in lines:
        values = {field.name: getattr(line, field.name) for field in dataclasses.fields(line)}
        count += 1
        if as_json:
            print_json(values)
            continue
        if table is None:
            table = Table(box=None, pad_edge=False)
            for name, value in values.items():
                table.add_column(name, justify="right" if isinstance(value, int | float) else "left")
        table.add_row(*(str(_plain(value)) if value is not None else "" for value in values.values()))
    if table is not None:
        table_console().print(table)
    elif not as_json and not count:
        typer.echo(empty)
    return count


def table_console() -> Console:
    """Where tables go: stdout. Off a terminal nothing is cut: a pipe has no width."""
    return Console(width=None if sys.stdout.isatty() else 400, highlight=False)


@contextmanager
def progress_bar(what: str, total: int | None, *, quiet: bool = False) -> Iterator["Bar"]:
    """A bar on stderr while it is a terminal, else nothing."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        yield Bar(bar, bar.add_task(what, total=total, rate=""))


class Bar:
    """One running bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, done: int) -> None:
        """So many more are done."""
        self._progress.advance(self._task, done)
        speed = self._progress.tasks[self._task].speed
        self._progress.update(self._task, rate=f"{speed:,.0f}/s" if speed else "")

    def set(self, done: int, total: int | None = None) -> None:
        """So many are done in all."""
        self._progress.update(self._task, completed=done, total=total)


def write_page(path: Path, page: str) -> None:
    """Write an HTML page and say so; raises UsageError where that cannot be."""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror or error}") from error
    note(f"wrote {path}")


def note(text: str) -> None:
    """One line for the person, on stderr, so that stdout stays data."""
    typer.echo(text, err=True)


def iso(at: datetime) -> str:
    """ISO 8601 in UTC, ending with Z."""
    return at.isoformat().replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
