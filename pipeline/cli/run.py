"""Commands that run: worker."""

import logging
import signal
import sys
import threading
from collections.abc import Callable
from typing import Annotated

import typer

from pipeline.cli.output import (
    Database,
    Deployment,
    Device,
    Dtype,
    Http,
    Json,
    LogFormat,
    Model,
    Source,
    note,
    print_json,
    progress_bar,
)
from pipeline.errors import OodwatchError

logger = logging.getLogger(__name__)


def worker(
    source: Source = None,
    database: Database = None,
    model: Model = None,
    deployment: Deployment = None,
    reference: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: the newest reference of the model.")
    ] = None,
    start_at: Annotated[
        str, typer.Option("--from", metavar="earliest|latest|TIME", help="Where to begin without a cursor.")
    ] = "earliest",
    drain: Annotated[bool, typer.Option("--drain", help="End when what is in the log now is stored.")] = False,
    max_batch: Annotated[int | None, typer.Option(min=1, help="Images in one forward pass.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    http: Http = None,
    log_format: LogFormat = None,
    as_json: Json = False,
) -> None:
    """Score what the log holds: every record ends as exactly one row or exactly one dead letter.

    Ends in order on Ctrl-C or SIGTERM within 20 s; killing it at any moment loses nothing.

    Example: oodwatch worker --source spool:spool/images --model models/resnet20
    """
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.working import run_worker
    from pipeline.stages.rows import Entry
    from pipeline.telemetry.logs import configure_logging

    settings = settings_from(
        source=source,
        database=database,
        model=model,
        deployment=deployment,
        reference=reference,
        device=device,
        dtype=dtype,
        max_batch=max_batch,
        http=http,
        log_format=log_format,
    )
    json_logs = configure_logging(settings.log.format, settings.log.level)
    say = logger.info if json_logs else note
    stop = stop_on_signals(say)
    with progress_bar("scoring", None, quiet=as_json) as bar:

        def count(entry: Entry) -> None:
            bar.advance(len(entry.batch.images) + len(entry.batch.dead))

        try:
            progress = run_worker(settings, start_at=start_at, drain=drain, stop=stop, on_stored=count, say=say)
        except OodwatchError as error:
            if not json_logs:
                raise
            logger.critical(str(error))  # one reason, in one form
            raise typer.Exit(error.exit_code) from error
    line = {
        "scored": progress.scored,
        "dead_letters": progress.dead,
        "flagged": progress.flagged,
        "expired": progress.expired,
        "fenced": progress.fenced,
    }
    if as_json:
        print_json(line)
    else:
        typer.echo(
            f"scored {progress.scored:,}, dead letters {progress.dead:,}, flagged {progress.flagged:,}"
            + (f", gone from the log before they were read {progress.expired:,}" if progress.expired else "")
        )


def stop_on_signals(say: Callable[[str], None] = note) -> threading.Event:
    """An event that the first SIGINT or SIGTERM sets; the second ends at once, which is safe by design."""
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()
        say("stopping; once more to end at once")

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stop
