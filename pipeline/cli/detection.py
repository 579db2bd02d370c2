"""The command replay: what the detector says of ticks from a file, or of those that are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.output import Database, Deployment, Json, note, print_json, print_lines
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.assembly.replaying import Question
    from pipeline.shift.budget import Budget, Thresholds
    from pipeline.shift.null import Null
    from pipeline.shift.tick import Tick
    from pipeline.shift.verdict import StreamVerdict

_FILE = "From a file"
_STORED = "From the database"


def replay(
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Begin, included.", rich_help_panel=_STORED)
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="End, not included.", rich_help_panel=_STORED)
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Judge by this one. Default: the one that scores now, and only its own ticks.",
            rich_help_panel=_STORED,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="none|N", help="A version of it. Default: the one that counts.", rich_help_panel=_STORED),
    ] = None,
    database: Database = None,
    deployment: Deployment = None,
    ticks: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="One line a tick and segment.", rich_help_panel=_FILE),
    ] = None,
    n_calibration: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Images that set the threshold.", rich_help_panel=_FILE)
    ] = None,
    target_fpr: Annotated[
        float | None,
        typer.Option(help="Share of normal images that it may flag. Default: 0.05.", rich_help_panel=_FILE),
    ] = None,
    budget_days: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Mean time between false alarms, of all. Default: 30.")
    ] = None,
    warning: Annotated[
        float | None, typer.Option(help="Share of flagged images since the onset. Default: 0.10.")
    ] = None,
    critical: Annotated[float | None, typer.Option(help="The same, for critical. Default: 0.25.")] = None,
    as_json: Json = False,
) -> None:
    """What would have been raised, with another budget, level, reference or baseline.

    From the database: the stored minutes of a window, with what is not given
    as the monitor has it (its settings, the newest baseline). It begins with
    no evidence. Under another --reference, flags and histogram are counted
    from 256 fine bins, and how far that can be trusted is said.

    From a file: {"start": "2026-11-24T03:00:00Z", "minutes": 1, "segment":
    "north", "n": 60, "flagged": 3, "histogram": [18 counts]} a line, the
    histogram being optional, in order of time. What it is measured against is
    the upper bound of the flag rate of N calibration images at the target.

    Prints every change of state; with --json one line a tick and stream.

    Example: oodwatch replay --from 2026-11-24T00:00Z --to 2026-11-25T00:00Z
    --budget-days 7

    Or: oodwatch replay --ticks ticks.jsonl --n-calibration 2000 --json
    """
    stored = {
        "--from": start,
        "--to": end,
        "--reference": reference,
        "--baseline": baseline,
        "--deployment": deployment,
    }
    of_file = {"--n-calibration": n_calibration, "--target-fpr": target_fpr}
    if ticks is not None:
        _refuse(stored, "belong to stored ticks; leave them out, or --ticks")
        _replay_file(ticks, n_calibration, target_fpr, *_asked(budget_days, warning, critical), as_json=as_json)
        return
    _refuse(of_file, "belong to ticks from a file; add --ticks, or leave them out")
    if start is None or end is None:
        raise UsageError("give --from and --to, of stored ticks, or --ticks FILE.jsonl and --n-calibration")
    from pipeline.assembly.replaying import Question
    from pipeline.assembly.sources import parse_time

    window = parse_time("--from", start), parse_time("--to", end)
    _replay_stored(
        Question(*window, budget_days, warning, critical, reference, baseline), database, deployment, as_json
    )


def _replay_stored(question: Question, database: str | None, deployment: str | None, as_json: bool) -> None:
    from pipeline.assembly.parts import existing_database, settings_from
    from pipeline.assembly.replaying import Replay

    settings = settings_from(database=database, deployment=deployment)
    with existing_database(settings) as engine:
        run = Replay(engine, settings, question)
        for text in run.notes:
            note(text)
        _print_verdicts(run.verdicts(), as_json=as_json, empty="nothing raised")
        for text in run.uncertainty():
            note(text)


def _replay_file(
    ticks: Path,
    n_calibration: int | None,
    target_fpr: float | None,
    budget: Budget,
    thresholds: Thresholds,
    *,
    as_json: bool,
) -> None:
    from pipeline.shift.null import Null
    from pipeline.shift.replay import replay as run

    if n_calibration is None:
        raise UsageError("--n-calibration N: say how many images set the threshold that flagged these ticks")
    target_fpr = 0.05 if target_fpr is None else target_fpr
    if not 0 < target_fpr < 1:
        raise UsageError(f"--target-fpr {target_fpr}: must lie between 0 and 1")
    null = Null.from_reference_numbers(n_calibration, target_fpr)
    null.check(thresholds)
    given = _read(ticks)
    _say_what_is_missing(null)
    verdicts = run(given, null, budget, thresholds)
    _print_verdicts(verdicts, as_json=as_json, empty=f"nothing raised in {len(given):,} ticks")


def _asked(budget_days: float | None, warning: float | None, critical: float | None) -> tuple[Budget, Thresholds]:
    from pipeline.shift.budget import MINUTES_PER_DAY, Budget, Thresholds

    levels = {"warning": warning, "critical": critical}
    thresholds = Thresholds(**{name: level for name, level in levels.items() if level is not None})
    return Budget() if budget_days is None else Budget(minutes=budget_days * MINUTES_PER_DAY), thresholds


def _read(ticks: Path) -> list[Tick]:
    from pipeline.shift.replay import read_ticks

    try:
        with ticks.open(encoding="utf-8") as lines:
            given = read_ticks(lines)
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UsageError(f"--ticks {ticks}: {said}; name a file of JSON lines") from error
    except UsageError as error:
        raise UsageError(f"--ticks {ticks}, {error}") from error
    if not given:
        raise UsageError(f"--ticks {ticks}: there is no line in it")
    return given


def _say_what_is_missing(null: Null) -> None:
    from pipeline.shift.threshold import HISTOGRAM_NEEDS, NO_ALERTS_BELOW

    if null.learning:
        note(f"{null.n} calibration images raise nothing: at least {NO_ALERTS_BELOW} are needed")
    elif null.histogram is None:
        note(f"{null.n} calibration images: without the score histogram, which needs {HISTOGRAM_NEEDS:,}")


def _print_verdicts(verdicts: Iterable[tuple[Tick, list[StreamVerdict]]], *, as_json: bool, empty: str) -> None:
    from pipeline.shift.replay import changes, verdict_line

    if not as_json:
        print_lines(changes(verdicts), as_json=False, empty=empty)
        return
    for tick, streams in verdicts:
        for verdict in streams:
            print_json(verdict_line(tick, verdict))


def _refuse(given: Mapping[str, object], why: str) -> None:
    named = [flag for flag, value in given.items() if value is not None]
    if named:
        raise UsageError(f"{', '.join(named)}: {why}")
