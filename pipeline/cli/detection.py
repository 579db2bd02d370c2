"""The command replay: what the detector says of ticks from a file."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import Json, note, print_json, print_lines
from pipeline.errors import UsageError


def replay(
    ticks: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="One line a tick and segment.")],
    n_calibration: Annotated[int, typer.Option(min=1, metavar="N", help="Images that set the threshold.")],
    target_fpr: Annotated[float, typer.Option(help="Share of normal images that the threshold may flag.")] = 0.05,
    budget_days: Annotated[float, typer.Option(metavar="DAYS", help="Mean time between false alarms, of all.")] = 30,
    warning: Annotated[float, typer.Option(help="Share of flagged images since the onset.")] = 0.10,
    critical: Annotated[float, typer.Option(help="The same, for critical.")] = 0.25,
    as_json: Json = False,
) -> None:
    """What would have been raised: run the detector over ticks from a file.

    A line: {"start": "2026-11-24T03:00:00Z", "minutes": 1, "segment": "north",
    "n": 60, "flagged": 3, "histogram": [18 counts]}, the histogram being
    optional, in order of time. What it is measured against is the upper bound
    of the flag rate of N calibration images at the target.

    Prints every change of state; with --json one line a tick and stream.

    Example: oodwatch replay --ticks ticks.jsonl --n-calibration 2000 --json
    """
    from pipeline.shift.budget import MINUTES_PER_DAY, Budget, Thresholds
    from pipeline.shift.null import Null
    from pipeline.shift.replay import changes, read_ticks, verdict_line
    from pipeline.shift.replay import replay as run
    from pipeline.shift.signals import HISTOGRAM_NEEDS
    from pipeline.shift.threshold import NO_ALERTS_BELOW

    if not 0 < target_fpr < 1:
        raise UsageError(f"--target-fpr {target_fpr}: must lie between 0 and 1")
    thresholds, budget = Thresholds(warning, critical), Budget(minutes=budget_days * MINUTES_PER_DAY)
    null = Null.from_reference_numbers(n_calibration, target_fpr)
    null.check(thresholds)
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
    if null.learning:
        note(f"{n_calibration} calibration images raise nothing: at least {NO_ALERTS_BELOW} are needed")
    elif null.histogram is None:
        note(f"{n_calibration} calibration images: without the score histogram, which needs {HISTOGRAM_NEEDS:,}")
    verdicts = run(given, null, budget, thresholds)
    if not as_json:
        print_lines(changes(verdicts), as_json=False, empty=f"nothing raised in {len(given):,} ticks")
        return
    for tick, streams in verdicts:
        for verdict in streams:
            print_json(verdict_line(tick, verdict))
