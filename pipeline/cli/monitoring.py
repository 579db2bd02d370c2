"""Commands that watch: monitor."""

import logging
from typing import Annotated

import typer

from pipeline.cli.output import Database, Deployment, Http, Json, LogFormat, note, print_json
from pipeline.cli.run import stop_on_signals
from pipeline.errors import OodwatchError, UsageError

logger = logging.getLogger(__name__)


def monitor(
    database: Database = None,
    deployment: Deployment = None,
    once: Annotated[bool, typer.Option("--once", help="Fold and evaluate all that is due, then end.")] = False,
    now: Annotated[str | None, typer.Option("--now", metavar="TIME", help="With --once: what the clock says.")] = None,
    http: Http = None,
    log_format: LogFormat = None,
    as_json: Json = False,
) -> None:
    """Turn what workers have written into ticks, and judge each once it is complete.

    Several may run on one database: one leads a deployment, the others stand by. Ends in order on Ctrl-C or
    SIGTERM within seconds; killing it at any moment loses nothing. Without --deployment it watches all.

    Example: oodwatch monitor --once --json
    """
    from pipeline.assembly.monitoring import run_monitor
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.sources import parse_time
    from pipeline.stages.judging import Judged
    from pipeline.telemetry.logs import configure_logging

    if now is not None and not once:
        raise UsageError("--now fixes the clock, and a monitor that runs on needs one that moves; add --once")
    settings = settings_from(database=database, deployment=deployment, http=http, log_format=log_format)
    json_logs = configure_logging(settings.log.format, settings.log.level)
    say = logger.info if json_logs else note

    def tell(judged: Judged) -> None:
        if as_json:
            for line in judged.as_lines():
                print_json(line)

    try:
        work = run_monitor(
            settings,
            once=once,
            now=None if now is None else parse_time("--now", now),
            stop=stop_on_signals(say),
            report=tell,
            say=say,
        )
    except OodwatchError as error:
        if once or not json_logs:
            raise
        logger.critical(str(error))  # one reason, in one form
        raise typer.Exit(error.exit_code) from error
    if work.deployments and not work.leading:
        note("another monitor leads; nothing was done here")
    if not as_json:
        typer.echo(
            f"folded {work.parts:,} parts of {work.images:,} images, evaluated {work.ticks:,} ticks,"
            f" {work.transitions:,} transitions"
            + (f", {work.late_images:,} images came late" if work.late_images else "")
        )
