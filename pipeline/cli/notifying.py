"""Commands of the channels: notify test, notify list, notify schema."""

from importlib.resources import files
from typing import Annotated

import typer

from pipeline.cli.output import Database, Json, print_json, print_lines

Channel = Annotated[str | None, typer.Option("--channel", metavar="NAME", help="This one alone. Default: all.")]


def try_out(channel: Channel = None, as_json: Json = False) -> None:
    """Send a test, marked as one, through the channels, and say how each has taken it.

    Needs no database. Exit code 0: every channel has taken it; 1: one has not.

    Example: oodwatch notify test --channel on-call
    """
    from dataclasses import asdict

    from pipeline.assembly.notifying import try_channels
    from pipeline.assembly.parts import settings_from

    all_ok = True
    for tried in try_channels(settings_from(), channel):
        all_ok = all_ok and tried.ok
        if as_json:
            print_json(asdict(tried))
        else:
            typer.echo(f"{tried.channel} ({tried.kind}, {tried.where}): {'ok' if tried.ok else tried.said}")
    if not all_ok:
        raise typer.Exit(1)


def list_channels(database: Database = None, as_json: Json = False) -> None:
    """The channels, and what of their notifications waits, was delivered or given up.

    Example: oodwatch notify list
    """
    from pipeline.assembly.notifying import channels_and_outbox
    from pipeline.assembly.parts import settings_from

    print_lines(
        channels_and_outbox(settings_from(database=database)),
        as_json=as_json,
        empty="there are no channels; write a [[channels]] table into the settings, see `oodwatch init`",
    )


def show_schema() -> None:
    """Print the JSON schema of what a webhook is sent, version 1.

    Example: oodwatch notify schema > webhook_v1.schema.json
    """
    typer.echo(files("pipeline.alerts").joinpath("webhook_v1.schema.json").read_text(encoding="utf-8"), nl=False)
