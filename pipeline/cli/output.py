"""What commands print: a table for people, JSON lines for programs; progress goes to stderr."""

import dataclasses
import json
import math
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipeline.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text.")]
Database = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="SQLAlchemy URL. Default: a SQLite file in the state directory."),
]
Source = Annotated[
    str | None, typer.Option("--source", metavar="URL", help="The log: spool:DIR/topic or kafka://host:port/topic.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="S", help="Give up after so many seconds without an answer.")
]
Deployment = Annotated[
    str | None,
    typer.Option("--deployment", metavar="NAME", help="One model on one source. Default: the model's name."),
]
Model = Annotated[
    Path | None, typer.Option("--model", metavar="DIR", help="A model package, made by `oodwatch package`.")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1.")]
Http = Annotated[
    str | None,
    typer.Option("--http", metavar="HOST:PORT|off", help="Health and metrics. Default: 127.0.0.1:9108."),
]
LogFormat = Annotated[
    str | None, typer.Option("--log-format", metavar="text|json", help="Default: text on a terminal, else json.")
]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16 (the backbone only).")]


def print_json(line: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout; times as ISO 8601, no NaN."""
    sys.stdout.write(json.dumps({key: _plain(value) for key, value in line.items()}, ensure_ascii=False) + "\n")


def print_lines(lines: Iterable[Any], *, as_json: bool, empty: str) -> int:
    """Print dataclasses as JSON lines or as a table; return how many there were."""
    count = 0
    rows: list[dict[str, Any]] = []
    for line in lines:
        values = {field.name: getattr(line, field.name) for field in dataclasses.fields(line)}
        count += 1
        if as_json:
            print_json(values)
        else:
            rows.append(values)
    if rows:
        _print_table(rows)
    elif not as_json:
        typer.echo(empty)
    return count


def table_console() -> Console:
    """Where tables go: stdout. Off a terminal nothing is cut: a pipe has no width."""
    return Console(width=None if sys.stdout.isatty() else 400, highlight=False)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """On a terminal, which is narrow, what is the same in all rows is said once; off it nothing is left out."""
    live = sys.stdout.isatty()
    console = table_console()
    same = [name for name, value in rows[0].items() if live and all(row[name] == value for row in rows)]
    if same:
        console.print(Text("   ".join(f"{name}={_cell(rows[0][name])}" for name in same)), style="dim")
    table = Table(box=None, pad_edge=False)
    shown = [name for name in rows[0] if name not in same]
    for name in shown:
        is_text = all(isinstance(row[name], str | None) for row in rows)
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row[name])) for name in shown))  # no markup in what others wrote
    if shown:
        console.print(table)


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
        self._show_rate()

    def set(self, done: int, total: int | None = None) -> None:
        """So many are done in all."""
        self._progress.update(self._task, completed=done, total=total)
        self._show_rate()

    def _show_rate(self) -> None:
        speed = self._progress.tasks[self._task].speed
        self._progress.update(self._task, rate=f"{speed:,.0f}/s" if speed else "")


def check_page(path: Path | None) -> None:
    """Raises UsageError where no page can be written, before the work that would fill it."""
    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(f"--html {path}: there is no folder {path.absolute().parent}")


def write_page(path: Path, page: str) -> None:
    """Write an HTML page and say so; raises UsageError where that cannot be."""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror or error}") from error
    note(f"wrote {path}")


def note(text: str) -> None:
    """One line for the person, on stderr, so that stdout stays data."""
    sys.stderr.write(text + "\n")  # not typer.echo, which would write over a progress bar


def harmless(text: str) -> str:
    """What somebody else wrote, on one line: whatever could move the cursor or turn text round is spelt out."""
    return "".join(c if c == " " or not unicodedata.category(c).startswith(("C", "Z")) else _spelt(c) for c in text)


def _spelt(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def iso(at: datetime) -> str:
    """ISO 8601 in UTC, ending with Z."""
    return at.isoformat().replace("+00:00", "Z")


def _cell(value: Any) -> str:
    """For a person: six digits are enough."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return iso(value.replace(microsecond=0))
    return f"{value:.6g}" if isinstance(value, float) else harmless(str(_plain(value)))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
