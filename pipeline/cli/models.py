"""The commands models list, register, compare, promote and rollback: which model scores, and who said so."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.output import (
    Database,
    Deployment,
    Device,
    Dtype,
    Json,
    Model,
    Source,
    note,
    print_json,
    print_lines,
    progress_bar,
)
from pipeline.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from pipeline.assembly.handover import Change

Package = Annotated[
    str, typer.Argument(metavar="NAME|HASH", help="Its name (of several the newest), its model's id, or 6+ digits.")
]
OwnReference = Annotated[
    str | None, typer.Option("--reference", metavar="NAME", help="Its own. Default: the newest of its model.")
]
Who = Annotated[
    str | None, typer.Option("--name", metavar="WHO", help="Who does this. Default: who is logged in here.")
]
Why = Annotated[str, typer.Option("--reason", metavar="WHY", help="For those who come later.")]


def list_models(
    database: Database = None,
    deployment: Deployment = None,
    events: Annotated[
        bool, typer.Option("--events", help="Instead: who registered, promoted, rolled back or refused what, and why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The packages in the database, what each was made of, and where it scores.

    Example: oodwatch models list --events
    """
    from pipeline.assembly.handover import history, packages
    from pipeline.assembly.parts import settings_from

    settings = settings_from(database=database, deployment=deployment)
    if events:
        print_lines(history(settings), as_json=as_json, empty="nothing has happened yet")
    else:
        empty = "no packages yet; put one in with `oodwatch models register DIR`"
        print_lines(packages(settings), as_json=as_json, empty=empty)


def register(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model package; its reference is in the database.")],
    called: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="What to call it. Default: the folder's name.")
    ] = None,
    who: Who = None,
    why: Annotated[str, typer.Option("--reason", metavar="WHY", help="For those who come later.")] = "",
    database: Database = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Put a package into the database, from where workers can take it: at most 256 MiB, known by its hash.

    It is loaded and asked first; nothing corrupt gets in. The same folder
    gives the same hash, and is stored once. Nothing changes for any worker
    until `models promote`. A package may bring code (model.py), which the
    workers run: on PostgreSQL this takes the tables' owner.

    Example: oodwatch models register models/resnet20-b
    """
    from pipeline.assembly.handover import register as run
    from pipeline.assembly.parts import settings_from

    made = run(settings_from(database=database, device=device), folder, name=called, who=_person(who), why=why)
    package = made.package
    if as_json:
        values = {name: value for name, value in dataclasses.asdict(package).items() if name != "repair"}
        print_json({**values, "package": package.hash, "new": made.is_new, "reference": made.reference})
        return
    typer.echo(f"{package}, {package.size / 2**20:.2f} MiB" + ("" if made.is_new else ": was registered before"))
    if made.reference is None:
        note(f"next: oodwatch calibrate --model {folder} IMAGES: without a reference it cannot be promoted")
    else:
        note(f"next: oodwatch models compare {package.name}, with its reference {made.reference}")


def compare(
    package: Package,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR|CSV", help="Compare on these. Default: on what the deployment kept.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="What was kept: from then on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="What was kept: until then.")] = None,
    most: Annotated[int, typer.Option(min=1, metavar="N", help="Originals to read from the log.")] = 1000,
    reference: OwnReference = None,
    model: Model = None,
    source: Source = None,
    database: Database = None,
    deployment: Deployment = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Score the same images with what scores now and with a candidate: go, or no-go with the reasons (exit code 3).

    Choose normal traffic: the flag rates say what each would call unusual
    among it, each by its own threshold. Where only the last layer is new, the
    features that the worker kept are enough; else the originals of random
    samples are read from the log (--source). Until something is promoted, the
    old model is the one of --model.

    No-go: fewer than 200 images; the monitor would warn at once; accuracy
    falls by a point (with 200 labels); other classes; a repair that is worse
    by its own report; a reference that the monitor refuses.

    Example: oodwatch models compare resnet20-b --model models/resnet20 --images validation-images
    """
    from pipeline.assembly.compared_images import Images
    from pipeline.assembly.comparing import run_comparison
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.sources import parse_time
    from pipeline.cli.repair_tables import print_comparison

    if images is not None and (start or end):
        raise UsageError("--from and --to choose among what was kept; leave them out with --images")
    chosen = Images(
        images,
        None if start is None else parse_time("--from", start),
        None if end is None else parse_time("--to", end),
        most,
    )
    settings = settings_from(
        database=database, source=source, model=model, deployment=deployment, device=device, dtype=dtype
    )
    with progress_bar("scoring", None, quiet=as_json) as bar:
        made, data = run_comparison(settings, package, chosen, reference=reference, progress=bar.advance)
    if as_json:
        print_json({"data": data, "go": made.go, **dataclasses.asdict(made)})
    else:
        print_comparison(made, data)
    if made.go:
        note(f"next: oodwatch models promote {package} --reason WHY")
    else:
        raise typer.Exit(RefusedError.exit_code)


def promote(
    package: Package,
    why: Why,
    who: Who = None,
    reference: OwnReference = None,
    database: Database = None,
    deployment: Deployment = None,
    force: Annotated[bool, typer.Option("--force", help="In spite of what speaks against it.")] = False,
    as_json: Json = False,
) -> None:
    """Let a registered package score: running workers load it beside the old one and change between two batches.

    No restart, and no image is lost or scored twice; each row names the
    reference, and so the model, that scored it. From then on it counts more
    than the --model that a worker is started with. The new reference begins
    with no evidence, and without a baseline. On PostgreSQL this takes the
    role oodwatch_operator.

    Refused with exit code 3: other classes, a repair that is worse by its own
    report, a reference of another dtype, or one that the monitor refuses,
    unless --force; a package without a reference of its own, or corrupt,
    always. A worker that cannot load it goes on with the old model, and says
    so in `models list --events` and in /readyz.

    Example: oodwatch models promote resnet20-b --reason "backgrounds forgotten"
    """
    from pipeline.assembly.handover import promote as run
    from pipeline.assembly.parts import settings_from

    settings = settings_from(database=database, deployment=deployment)
    _print(run(settings, package, reference=reference, who=_person(who), why=why, force=force), as_json)


def rollback(
    why: Why,
    who: Who = None,
    database: Database = None,
    deployment: Deployment = None,
    as_json: Json = False,
) -> None:
    """Take the newest promotion back: what scored before it scores again, with its reference, bit for bit.

    Once more takes the promotion before that back, down to the --model that
    the workers were started with.

    Example: oodwatch models rollback --reason "flags every night shot"
    """
    from pipeline.assembly.handover import rollback as run
    from pipeline.assembly.parts import settings_from

    _print(run(settings_from(database=database, deployment=deployment), who=_person(who), why=why), as_json)


def _person(who: str | None) -> str:
    import getpass

    if who is not None:
        return who
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # a container's user without a name
        raise UsageError("--name: nobody is logged in here; say who does this") from error


def _print(change: Change, as_json: bool) -> None:
    for text in change.notes:
        note(text)
    if as_json:
        print_json(dataclasses.asdict(change))
        return
    typer.echo(
        f"{change.deployment}: {change.model} with reference {change.reference}, in place of {change.before}"
        f" (revision {change.revision})"
    )
    note("running workers take it within seconds; what they say: oodwatch models list --events, oodwatch health")
