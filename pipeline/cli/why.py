"""The commands about what lies behind an incident: why, mark, marks, labels."""

from __future__ import annotations

import dataclasses
import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.files import written_whole
from pipeline.cli.output import Database, Deployment, Json, note, print_json, print_lines, progress_bar
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.alerts.accuracy import Labelled, Proportion
    from pipeline.assembly.labelling import Given


def why(
    incident: Annotated[
        int | None, typer.Argument(metavar="ID", help="Default: the newest that is open, else the newest.")
    ] = None,
    database: Database = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="FILE.zip", help="Also write the evidence: it opens offline.")
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Of images, in the bundle.")] = True,
    as_json: Json = False,
) -> None:
    """Answer a page: what, since when, where, why, whether it matters, and whether it can be trusted.

    Causes are ranked by stored evidence: image properties, repeats, classes,
    scores, versions, marks. With --json the payload that webhooks get. With
    --bundle the incident as a page, its series, events and samples in a zip.

    Example: oodwatch why 7 --bundle incident-7.zip
    """
    from pipeline.alerts.page import page
    from pipeline.assembly.answering import evidence
    from pipeline.assembly.answering import why as answer
    from pipeline.assembly.parts import settings_from

    settings = settings_from(database=database)
    payload = answer(settings, incident)
    if bundle is not None:
        packed = evidence(settings, payload["incident"], pictures=pictures)
        with written_whole(bundle, "choose another place with --bundle") as partial:
            partial.write_bytes(packed)
        note(f"wrote {len(packed):,} bytes to {bundle}")
    if as_json:
        print_json(payload)
    else:
        typer.echo(page(payload))


def mark(
    text: Annotated[str, typer.Argument(help="What was done, as: deploy v12.")],
    at: Annotated[str | None, typer.Option("--at", metavar="ISO", help="When. Default: now.")] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="WHO", help="Who says so. Default: this login.")] = None,
    database: Database = None,
    deployment: Deployment = None,
    as_json: Json = False,
) -> None:
    """Note something that was done, to be held against onsets: a deploy, a cleaned lens.

    Without --deployment it counts for all of them.

    Example: oodwatch mark "deploy v12" --at 2026-11-24T03:00Z
    """
    from pipeline.assembly.marking import make_mark
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.sources import parse_time

    made = make_mark(
        settings_from(database=database, deployment=deployment),
        text,
        at=None if at is None else parse_time("--at", at),
        who=name or getpass.getuser(),
    )
    print_lines([made], as_json=as_json, empty="")


def marks(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    database: Database = None,
    deployment: Deployment = None,
    as_json: Json = False,
) -> None:
    """List what people noted, oldest first.

    Example: oodwatch marks --limit 10
    """
    from pipeline.assembly.marking import list_marks
    from pipeline.assembly.parts import settings_from

    found = list_marks(settings_from(database=database, deployment=deployment), limit)
    print_lines(found, as_json=as_json, empty='no mark yet; make one with `oodwatch mark "deploy v12"`')


def labels(
    file: Annotated[Path, typer.Argument(help="CSV with the columns id and label, or JSON lines with these names.")],
    since: Annotated[str | None, typer.Option("--from", metavar="ISO", help="Event time, inclusive.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="ISO", help="Event time, exclusive.")] = None,
    database: Database = None,
    deployment: Deployment = None,
    as_json: Json = False,
) -> None:
    """Take in ground truth that came late, by record id; say how often the model was right.

    Reads the scores of the window once, however many ids there are. Given
    again, a file changes nothing; of one id the last label counts. What is
    unknown is listed, and left out: exit code 1.

    Example: oodwatch labels truth.csv --from 2026-11-24T00:00Z
    """
    from pipeline.assembly.labelling import take_labels
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.sources import parse_time
    from pipeline.ingest.labels_file import read_labels

    window = {
        "start": None if since is None else parse_time("--from", since),
        "end": None if until is None else parse_time("--to", until),
    }
    settings = settings_from(database=database, deployment=deployment)
    try:
        with file.open(encoding="utf-8", newline="") as opened, progress_bar("reading", None) as bar:
            given = take_labels(settings, read_labels(opened), progress=bar.advance, **window)
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UsageError(f"{file}: {said}; name a CSV or JSON lines file") from error
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
    for text in _failures(given):
        note(text)
    if as_json:
        print_json(_as_json(given))
    else:
        typer.echo(f"{given.lines:,} lines: {given.images:,} images have a label now")
        if given.accuracy is not None:
            print_lines(_accuracy(given.accuracy), as_json=False, empty="")
    if given.failed:
        raise typer.Exit(1)


@dataclasses.dataclass(frozen=True)
class _Line:
    images: str
    right: float
    low: float
    high: float
    n: int


def _accuracy(found: Labelled) -> Iterator[_Line]:
    parts: list[tuple[str, Proportion | None]] = [
        ("all", found.all),
        ("flagged", found.flagged),
        ("not flagged", found.unflagged),
        *((f"segment {name}", one) for name, one in found.segments.items()),
    ]
    for name, one in parts:
        if one is not None:
            yield _Line(name, round(one.share, 4), round(one.low, 4), round(one.high, 4), int(one.n))


def _failures(given: Given) -> Iterator[str]:
    for line in given.first_bad:
        yield f"line {line.line}: {line.why}"
    if (more := given.bad_lines - len(given.first_bad)) > 0:
        yield f"... and {more:,} more lines that cannot be used"
    if given.unknown_ids:
        shown = ", ".join(map(repr, given.first_unknown)) + ", ..." * (given.unknown_ids > len(given.first_unknown))
        yield f"{given.unknown_ids:,} ids belong to no scored image (of this window and deployment): {shown}"
    for label, images in given.unknown_classes.most_common(10):
        yield f"class {label!r} is none of the model's: {images:,} images left without a label"


def _as_json(given: Given) -> dict[str, Any]:
    return {
        "lines": given.lines,
        "images": given.images,
        "unknown_ids": given.unknown_ids,
        "first_unknown_ids": given.first_unknown,
        "unknown_classes": dict(given.unknown_classes),
        "bad_lines": given.bad_lines,
        "accuracy": [] if given.accuracy is None else [dataclasses.asdict(one) for one in _accuracy(given.accuracy)],
    }
