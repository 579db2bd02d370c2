"""The command drill: is all of it awake, and how soon?"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.output import Database, Deployment, Json, Source, harmless, note, print_json

if TYPE_CHECKING:
    from pipeline.assembly.drilling import Drilled


def drill(
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Odd images of your own. Default: static, stripes, waves."),
    ] = None,
    segment: Annotated[str, typer.Option("--segment", metavar="NAME", help="The segment that they claim.")] = "drill",
    count: Annotated[int, typer.Option("--count", min=1, max=1000, metavar="N", help="So many.")] = 9,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="S", help="Wait so long for the worker, then for the channels.")
    ] = 60.0,
    name: Annotated[str | None, typer.Option("--name", metavar="WHO", help="Who drills. Default: this login.")] = None,
    source: Source = None,
    database: Database = None,
    deployment: Deployment = None,
    as_json: Json = False,
) -> None:
    """Send odd images through the real topic, and have every channel told that it is a drill: the time to page.

    The images carry `drill: 1`: they are scored and stored, and no statistic,
    incident or false-alarm budget sees them. As soon as they are seen flagged
    in the database, a notification that says of itself that it is a drill
    goes through the outbox, the running monitor and every channel of the
    settings, whatever its min_state; a minute later, that it is over. What is
    not told within the time never is. So this is the way of a page without
    the detector: a real shift waits besides for the end of its minute, for
    late images, and until the evidence is enough (`oodwatch simulate`).

    Exit code 0: all were scored, some are flagged, every channel was told; 1
    otherwise.

    Example: oodwatch drill --images tests/odd --segment cam-3
    """
    from pipeline.assembly.drilling import run_drill
    from pipeline.assembly.parts import settings_from
    from pipeline.cli.alerts import who_decides

    done = run_drill(
        settings_from(source=source, database=database, deployment=deployment),
        folder=images,
        segment=segment,
        count=count,
        timeout_s=timeout,
        who=who_decides(name),
        say=note,
    )
    if as_json:
        print_json({**dataclasses.asdict(done), "went_well": done.went_well})
    else:
        for line in _words(done):
            typer.echo(line)
    if not done.went_well:
        raise typer.Exit(1)


def _words(done: "Drilled") -> Iterator[str]:
    yield f"{done.images} images were sent in {done.sent_s:.1f} s to {harmless(done.deployment)}"
    lost = ", ".join(f"{count} {reason}" for reason, count in done.dead.items())
    dead = f"; dead letters: {lost}" if lost else ""
    if done.stored_s is None:
        yield f"only {done.scored} were scored within the time{dead}: is a worker running? (`oodwatch health`)"
    else:
        yield f"{done.scored} were scored and stored after {done.stored_s:.1f} s, {done.flagged} are flagged{dead}"
    if done.told_s is None:
        if done.scored:
            yield "none is flagged, so nobody is told: show it odder images with --images"
        return
    if not done.channels:
        yield "there are no channels, so nobody is told; write a [[channels]] table into the settings"
    for one in done.channels:
        what = harmless(one.channel)
        if one.delivered_s is None:
            said = f": {harmless(one.error)}" if one.error else ": is a monitor running? (`oodwatch health`)"
            yield f"{what}: not told within the time, after {one.attempts} attempts{said}"
        else:
            yield f"{what}: told {one.delivered_s:.1f} s after the first image was sent"
    yield (
        f"a real shift waits up to {done.waits_at_most_s:.0f} s longer, until its minute is over and judged, and until"
        " there is evidence enough: oodwatch simulate"
    )
