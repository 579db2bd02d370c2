"""Commands that watch: monitor."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.output import Database, Deployment, Http, Json, LogFormat, note, print_json
from pipeline.cli.run import stop_on_signals
from pipeline.errors import OodwatchError, UsageError

if TYPE_CHECKING:
    from pipeline.stages.judging import Judged

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

    Each change of state is a line: when, which stream, from and to, since
    when, which share has been flagged since then (with its 95 % interval),
    and the evidence: e^evidence to 1 against normal traffic. A stream is ok;
    at shift, when something has changed; at warning or critical, when so
    much has been flagged since. On the way back it comes down one by one.
    With --json every minute is a line, too.

    Several may run on one database: one leads a deployment, the others stand
    by. Ends in order on Ctrl-C or SIGTERM within seconds; killing it at any
    moment loses nothing. Without --deployment it watches all.

    Example: oodwatch monitor --once --json
    """
    from pipeline.assembly.monitoring import run_monitor
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.sources import parse_time
    from pipeline.telemetry.logs import configure_logging

    if now is not None and not once:
        raise UsageError("--now fixes the clock, and a monitor that runs on needs one that moves; add --once")
    settings = settings_from(database=database, deployment=deployment, http=http, log_format=log_format)
    json_logs = configure_logging(settings.log.format, settings.log.level)
    say = logger.info if json_logs else note
    teller = _Teller(as_json=as_json, log=json_logs and not once)
    try:
        work = run_monitor(
            settings,
            once=once,
            now=None if now is None else parse_time("--now", now),
            stop=stop_on_signals(say),
            report=teller.tell,
            say=say,
        )
    except OodwatchError as error:
        if once or not json_logs:
            raise
        logger.critical(str(error))  # one reason, in one form
        raise typer.Exit(error.exit_code) from error
    if work.deployments and not work.leading:
        note("another monitor leads; nothing was done here")
    elif once and not work.ticks:
        wait = settings.monitor
        note(
            f"no minute is due: one is judged {wait.lateness_seconds:g} s after its end, once newer images have come"
            f" or none for {wait.idle_seconds:g} s; --now TIME stands in for waiting"
        )
    if not as_json:
        typer.echo(
            f"folded {work.parts:,} parts of {work.images:,} images, evaluated {work.ticks:,} ticks,"
            f" {teller.told:,} changes of state"
            + (f", {work.late_images:,} images came late" if work.late_images else "")
        )


@dataclass
class _Teller:
    """Says what has been judged: JSON lines, or the changes of state in words, on stdout or in the log."""

    as_json: bool
    log: bool
    told: int = 0  # changes

    def tell(self, judged: "Judged") -> None:
        """One judgement."""
        from pipeline.cli.wording import change_in_words

        if self.as_json:
            for line in judged.as_lines():
                print_json(line)
            return
        for verdict in judged.transitions:
            self.told += 1
            words = change_in_words(judged.tick, verdict, provisional=judged.provisional)
            if self.log:
                logger.warning(words, extra={"deployment": judged.deployment, "stream": verdict.stream})
            else:
                typer.echo(f"{judged.deployment}: {words}")
