"""The command line: which commands there are, and how every error becomes one line and an exit code."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer

from pipeline.cli import (
    admin,
    alerts,
    baseline,
    coverage,
    dashboard,
    data,
    detection,
    drilling,
    evaluation,
    explaining,
    finetuning,
    labelling,
    model,
    models,
    monitoring,
    notifying,
    operations,
    retraining,
    rules,
    run,
    simulating,
    together,
    topics,
    why,
)
from pipeline.errors import EnvironmentFault, OodwatchError, masked

app = typer.Typer(
    name="oodwatch",
    help="Watch an image classifier in production: every image scored exactly once by its energy.\n\n"
    "A first look: oodwatch demo\n\n"
    "Then, for your own model: package, calibrate, produce, worker, ledger, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
PANELS: dict[str, dict[str, Callable[..., Any]]] = {
    "See it": {"demo": together.demo},
    "Model": {
        "package": model.package,
        "score": model.score,
        "evaluate": evaluation.evaluate,
        "calibrate": model.calibrate,
        "references": model.references,
        "card": model.card,
    },
    "Run": {
        "produce": data.produce,
        "worker": run.worker,
        "monitor": monitoring.monitor,
        "up": together.up,
    },
    "Detect": {"replay": detection.replay, "simulate": simulating.simulate},
    "Alert": {
        "alerts": alerts.alerts,
        "why": why.why,
        "ack": alerts.ack,
        "silence": alerts.silence,
        "expect": alerts.expect,
        "note": alerts.note_on,
        "mark": why.mark,
        "marks": why.marks,
        "labels": why.labels,
        "drill": drilling.drill,
    },
    "Repair": {"finetune": finetuning.finetune, "retrain-head": retraining.retrain_head},
    "Look": {
        "dashboard": dashboard.dashboard,
        "ledger": data.ledger,
        "dead-letters": data.dead_letters,
        "health": operations.health,
        "coverage": coverage.coverage,
        "explain": explaining.explain,
    },
    "Administer": {"doctor": operations.doctor, "init": admin.init, "migrate": admin.migrate, "forget": data.forget},
}
for panel, commands in PANELS.items():
    for name, function in commands.items():
        app.command(name, rich_help_panel=panel)(function)
export = typer.Typer(help="Write stored rows to a file.", no_args_is_help=True)
export.command("scores")(data.export_scores)
export.command("samples")(labelling.export_samples)
app.add_typer(export, name="export", rich_help_panel="Look")
baseline_commands = typer.Typer(help="What counts as normal traffic: nights, bursts, wandering.", no_args_is_help=True)
baseline_commands.command("show")(baseline.show)
baseline_commands.command("accept")(baseline.accept)
baseline_commands.command("revoke")(baseline.revoke)
app.add_typer(baseline_commands, name="baseline", rich_help_panel="Detect")
notify_commands = typer.Typer(help="Who is told: try the channels, look at the outbox.", no_args_is_help=True)
notify_commands.command("test")(notifying.try_out)
notify_commands.command("list")(notifying.list_channels)
notify_commands.command("schema")(notifying.show_schema)
app.add_typer(notify_commands, name="notify", rich_help_panel="Administer")
rule_commands = typer.Typer(help="Rules and dashboards of other tools.", no_args_is_help=True)
rule_commands.command("export")(rules.export)
rule_commands.callback()(lambda: None)
app.add_typer(rule_commands, name="rules", rich_help_panel="Administer")
model_commands = typer.Typer(help="Which model scores: register, compare, promote, roll back.", no_args_is_help=True)
model_commands.command("list")(models.list_models)
model_commands.command("register")(models.register)
model_commands.command("compare")(models.compare)
model_commands.command("promote")(models.promote)
model_commands.command("rollback")(models.rollback)
app.add_typer(model_commands, name="models", rich_help_panel="Repair")
topic_commands = typer.Typer(help="Make or check the topic of a Kafka source.", no_args_is_help=True)
topic_commands.command("ensure")(topics.ensure)
app.add_typer(topic_commands, name="topics", rich_help_panel="Administer")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oodwatch {version('oodwatch')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens, to stderr.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if not verbose:
        # kafka-python reports every attempt to connect; what matters of it reaches the user as one line.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)


def main() -> NoReturn:
    """Run the command that this process was started for, and end it."""
    _leave(execute())


def execute() -> int:
    """Run a command and return its exit code; errors that a user can answer end as one line on stderr."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OodwatchError as error:
        typer.echo("oodwatch: " + masked(str(error)).replace("\n", " "), err=True)
        return error.exit_code
    except KeyboardInterrupt:
        typer.echo("oodwatch: interrupted", err=True)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # where stdout goes is full, or gone
        typer.echo(f"oodwatch: {error.strerror or error}", err=True)
        return EnvironmentFault.exit_code
    return 0


def _leave(code: int) -> NoReturn:
    """End the process, also where a thread does not come back from native code.

    The interpreter would wait for it for ever, also for a daemon that belongs to a pool. Nothing is
    lost: what counts was committed before.
    """
    if threading.active_count() > 1:
        logging.shutdown()
        with contextlib.suppress(OSError, ValueError):  # whoever read it has gone
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
