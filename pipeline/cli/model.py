"""Commands about a model: package, score, calibrate, references."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.output import (
    Database,
    Device,
    Dtype,
    Json,
    Model,
    check_page,
    note,
    print_json,
    print_lines,
    progress_bar,
)
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.calibrate import Calibration
    from pipeline.records import Card, Reference

_STORED = "From stored scores"


def package(
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    classes: Annotated[Path, typer.Option(help="A text file, one class name a line, in the order of the logits.")],
    input_size: Annotated[int, typer.Option(metavar="N", help="The network sees N x N pixels.")],
    mean: Annotated[str, typer.Option(metavar="a,b,c", help="Per channel, on a 0..1 scale.")],
    std: Annotated[str, typer.Option(metavar="a,b,c", help="Per channel, on a 0..1 scale.")],
    architecture: Annotated[
        str | None,
        typer.Option(metavar="FILE.py:F|MODULE:F", help="A function that returns the network, without weights."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A state dict: .safetensors, .pt, .pth or .th. Nothing is unpickled.")
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Name of the last linear layer; its input is the feature vector.")
    ] = None,
    program: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.pt2",
            help="In place of these three: a torch.export program that returns (logits, features).",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Default: the folder's name.")] = None,
    version: Annotated[str, typer.Option(help="Your own version of the model.")] = "1",
    resize: Annotated[
        int | None,
        typer.Option(metavar="N", help="Shorter side before the centre crop. Default: --input-size."),
    ] = None,
    colour: Annotated[str, typer.Option(help="Channel order that the network was trained on: RGB or BGR.")] = "RGB",
    exif_orientation: Annotated[
        bool,
        typer.Option("--exif-orientation", help="Turn images upright first. Most training code does not."),
    ] = False,
    argument: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Keyword argument of the function; repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing folder.")] = False,
    as_json: Json = False,
) -> None:
    """Make a model package: weights, architecture and preprocessing in one folder with one hash.

    Example: oodwatch package models/resnet20 --architecture resnet.py:resnet20 --weights resnet20.th
    --classes classes.txt --input-size 32 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --head linear

    Or: oodwatch package models/vit --program vit.pt2 --classes classes.txt --input-size 224
    --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5
    """
    from pipeline.models.packaging import make_package, make_program_package
    from pipeline.models.preprocessing import Preprocessing

    preprocessing = Preprocessing(
        input_size=input_size,
        resize=resize or input_size,
        mean=_triple("--mean", mean),
        std=_triple("--std", std),
        colour=colour.upper(),
        exif_orientation=exif_orientation,
    )
    if program is not None:
        if architecture or weights or head or argument:
            raise UsageError("--program holds architecture, weights and head; leave the others (and --argument) out")
        made = make_program_package(
            out,
            program=program,
            classes=classes,
            preprocessing=preprocessing,
            name=name,
            version=version,
            force=force,
        )
    elif architecture is None or weights is None or head is None:
        raise UsageError("give --architecture, --weights and --head, or --program")
    else:
        made = make_package(
            out,
            architecture=architecture,
            weights=weights,
            classes=classes,
            head=head,
            preprocessing=preprocessing,
            name=name,
            version=version,
            arguments=dict(_argument(text) for text in argument or ()),
            force=force,
        )
    if as_json:
        print_json({"package": str(out), "model": made.model_id, "classes": len(made.spec.classes)})
    else:
        typer.echo(f"{out}: {made.model_id}, {len(made.spec.classes)} classes")
        note("next: oodwatch calibrate --model " + str(out) + " IMAGES")


def score(
    paths: Annotated[list[Path], typer.Argument(help="Folders (recursively, by image suffix) and files.")],
    model: Model = None,
    temperature: Annotated[float, typer.Option(help="T of the energy; 1 in the paper.")] = 1.0,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Score image files: energy (nats, higher is more unusual), maximum softmax, class. No database.

    Example: oodwatch score --model models/resnet20 holiday-photos --json
    """
    from pipeline.assembly.parts import decode_threads, energy_score, open_model, settings_from
    from pipeline.ingest.image_files import find_images
    from pipeline.stages.files import score_files

    settings = settings_from(model=model, device=device, dtype=dtype)
    files = find_images(paths)
    if not files:
        raise UsageError(f"{', '.join(map(str, paths))}: no image in it; name files, or a folder of images")
    parts = open_model(settings)
    classes = parts.package.spec.classes
    failed = 0
    with progress_bar("scoring", len(files), quiet=not as_json) as bar:
        for batch in score_files(
            [file.path for file in files],
            parts.preparation,
            parts.classifier,
            energy_score(temperature),
            threads=decode_threads(settings),
        ):
            lines: list[tuple[int, dict[str, object]]] = [
                (index, {"file": files[index].name, "error": why}) for index, why in batch.failed
            ]
            for i, index in enumerate(batch.files):
                label = int(batch.scores.class_index[i])
                lines.append(
                    (
                        index,
                        {
                            "file": files[index].name,
                            "energy": float(batch.scores.energy[i]),
                            "msp": float(batch.scores.msp[i]),
                            "class": classes[label],
                            "class_index": label,
                        },
                    )
                )
            failed += len(batch.failed)
            bar.advance(len(lines))
            for _, line in sorted(lines, key=lambda item: item[0]):
                _print_score(line, as_json)
    if failed:
        raise typer.Exit(1)


def calibrate(
    images: Annotated[
        Path | None,
        typer.Argument(help="In-distribution images: class folders, a flat folder, or a CSV with file[,label]."),
    ] = None,
    model: Model = None,
    database: Database = None,
    target_fpr: Annotated[
        float | None,
        typer.Option(help="Share of normal images that may be flagged. Default: 0.05; with --from, as before."),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="T of the energy. Default: 1. Never choose it on these images.")
    ] = None,
    score: Annotated[
        Literal["energy", "energy+residual"] | None,
        typer.Option(
            help="energy, the default: the paper's. energy+residual: adds how far the features leave the space of"
            " normal images; half of the images then shape the score and the other half sets the threshold."
        ),
    ] = None,
    residual_dimensions: Annotated[
        str,
        typer.Option(metavar="auto|d", help="Of the space of normal features. auto: D/8, D/4 or D/2, by the card."),
    ] = "auto",
    representative: Annotated[
        bool,
        typer.Option(
            "--representative",
            help="Class shares and features here are those of normal traffic: both are watched from the start.",
        ),
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="In place of images: scores stored from then on.", rich_help_panel=_STORED
        ),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="End of that window.", rich_help_panel=_STORED)
    ] = None,
    deployment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose scores.", rich_help_panel=_STORED)
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also where something was raised in the window.", rich_help_panel=_STORED),
    ] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the blind-spot card as one page.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Make the reference that production is held against: threshold, histogram edges, feature statistics.

    Use images that the model was not trained on, at least 2,000, independent
    of each other.

    It then damages some of these images (rotates, blurs, darkens, ...) and
    prints the blind-spot card: for each kind of damage how often the model is
    still right, how many images each score flags, and how far the histogram
    of the scores moves (0 not at all, 1 completely); what this monitor will
    see, what it cannot, and which score to take. The card is stored with the
    reference; `oodwatch card` prints it again.

    Example: oodwatch calibrate --model models/resnet20 validation-images
    --html card.html

    Or, from what a deployment has scored, where that was normal: the model
    and its score stay, the threshold is set anew. Neighbours in time are no
    independent evidence: n images with dispersion D count as n/D.

    Example: oodwatch calibrate --from 2026-11-17T00:00Z --to 2026-11-24T00:00Z
    """
    check_page(html)
    if target_fpr is not None and not 0 < target_fpr < 1:
        raise UsageError(f"--target-fpr {target_fpr}: must lie between 0 and 1")
    if start is not None or end is not None:
        fixed = (images, model, temperature, score, device, dtype)
        if start is None or end is None or representative or any(value is not None for value in fixed):
            raise UsageError(
                "stored scores need --from and --to, and neither images nor --model, --score, --temperature,"
                " --representative, --device or --dtype: those stay as they are"
            )
        _calibrate_stored(start, end, database, deployment, target_fpr, force=force, as_json=as_json)
        return
    if images is None or deployment is not None or force:
        raise UsageError("name a folder of images; or --from and --to, for stored scores (of --deployment)")
    temperature = 1.0 if temperature is None else temperature
    if not temperature > 0:
        raise UsageError(f"--temperature {temperature}: must be above 0")
    from pipeline.assembly.calibrating import run_calibration
    from pipeline.assembly.parts import settings_from
    from pipeline.ingest.image_files import labelled_images

    settings = settings_from(model=model, database=database, device=device, dtype=dtype)
    files = labelled_images(images)
    with progress_bar("calibrating", len(files)) as bar:
        made = run_calibration(
            settings,
            files,
            target_fpr=0.05 if target_fpr is None else target_fpr,
            temperature=temperature,
            representative=representative,
            score_name=score or "energy",
            residual_dimensions=parse_dimensions(residual_dimensions),
            progress=bar.advance,
        )
    _print_calibration(made, as_json)
    if html is not None:
        _write_card(html, made.reference.name, made.reference.score_name, made.reference.card)
    if made.failed:
        raise typer.Exit(1)


def _calibrate_stored(
    start: str,
    end: str,
    database: str | None,
    deployment: str | None,
    target_fpr: float | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.recalibrating import run_recalibration
    from pipeline.assembly.sources import parse_time
    from pipeline.shift.threshold import promise

    settings = settings_from(database=database, deployment=deployment)
    window = parse_time("--from", start), parse_time("--to", end)
    made = run_recalibration(settings, *window, target_fpr=target_fpr, force=force)
    reference = made.reference
    for text in made.notes:
        note(text)
    if as_json:
        line = {"deployment": made.deployment, "replaces": made.replaces, "scores": made.scores, "d": made.d}
        print_json({**_figures(reference), **line})
    else:
        typer.echo(
            f"{reference.name}: threshold {reference.threshold:.4f} nats from {made.scores:,} stored scores of"
            f" {made.replaces}; with dispersion D = {made.d:.3g} they count as {reference.n:,} independent ones"
        )
        typer.echo(promise(reference.n, reference.target_fpr))
    note(
        f"next: start the workers of {made.deployment} again: like all of this model that start from now on, they then"
        f" score with {reference.name} (--reference names another); a baseline belongs to its reference: accept one for"
        " the new one when three days of its traffic are stored"
    )


def references(database: Database = None, as_json: Json = False) -> None:
    """List the references in a database.

    Example: oodwatch references
    """
    from pipeline.assembly.parts import open_database_of, settings_from
    from pipeline.storage.engine import reading, translated_errors
    from pipeline.storage.references import list_references

    engine = open_database_of(settings_from(database=database), create=False)
    with translated_errors(engine.url), reading(engine).connect() as conn:
        lines = list_references(conn)
    print_lines(lines, as_json=as_json, empty="no references yet; make one with `oodwatch calibrate`")


def card(
    reference: Annotated[str | None, typer.Argument(metavar="[REFERENCE]", help="Default: the newest.")] = None,
    database: Database = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as one page, too.")] = None,
    as_json: Json = False,
) -> None:
    """Show the blind-spot card of a reference: what its monitor will see and what it cannot.

    Example: oodwatch card resnet20-r1 --html card.html
    """
    from pipeline.assembly.parts import open_database_of, settings_from
    from pipeline.storage.engine import reading, translated_errors
    from pipeline.storage.references import stored_card

    check_page(html)
    engine = open_database_of(settings_from(database=database), create=False)
    with translated_errors(engine.url), reading(engine).connect() as conn:
        name, score, _, _, found = stored_card(conn, reference)
    if as_json:
        print_json({"reference": name, "score": score, "card": None if found is None else dataclasses.asdict(found)})
    else:
        _print_card_of(name, score, found)
    if html is not None:
        _write_card(html, name, score, found)


def _print_card_of(name: str, score: str, card: Card | None) -> None:
    from pipeline.cli.card import print_card

    if card is None:
        typer.echo(f"{name} has no blind-spot card: it was made of too few images, or by an older release")
    else:
        print_card(card, score)


def _write_card(path: Path, name: str, score: str, card: Card | None) -> None:
    from pipeline.cli.output import write_page
    from pipeline.reports.card_page import card_page

    if card is None:
        note(f"{path} was not written: {name} has no blind-spot card")
    else:
        write_page(path, card_page(card, name, score))


def parse_dimensions(text: str) -> int | None:
    """Of --residual-dimensions: None for auto. Raises UsageError."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--residual-dimensions {text!r}: write auto, or a whole number of at least 1")
    return int(text)


def _print_score(line: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(line)
    elif "error" in line:
        note(f"{line['file']}: {line['error']}")
    else:
        typer.echo(f"{line['energy']:12.6f} {line['msp']:9.6f}  {line['class']!s:<16} {line['file']}")


def _print_calibration(made: Calibration, as_json: bool) -> None:
    from pipeline.shift.threshold import promise

    reference = made.reference
    for file, why in made.failed[:10]:
        note(f"skipped {file}: {why}")
    if len(made.failed) > 10:
        note(f"... and {len(made.failed) - 10} more")
    if made.duplicates:
        note(f"{made.duplicates} images repeat others byte for byte; they are no independent evidence")
    if as_json:
        print_json({**_figures(reference), "skipped": len(made.failed), "duplicates": made.duplicates})
        return
    typer.echo(f"{reference.name}: threshold {reference.threshold:.4f} nats from {reference.n:,} images")
    typer.echo(promise(reference.n, reference.target_fpr))
    typer.echo("")
    _print_card_of(reference.name, reference.score_name, reference.card)
    note("next: oodwatch produce PHOTOS --source spool:DIR/TOPIC, and oodwatch worker with the same source")


def _figures(reference: Reference) -> dict[str, object]:
    from pipeline.shift.threshold import PROVISIONAL_BELOW

    return {
        "reference": reference.name,
        "model": reference.model_id,
        "n": reference.n,
        "threshold": reference.threshold,
        "p0_low": reference.p0_low,
        "p0_high": reference.p0_high,
        "provisional": reference.n < PROVISIONAL_BELOW,
        "rank": reference.rank,
        "target_fpr": reference.target_fpr,
        "temperature": reference.temperature,
        "score": reference.score_name,
        "residual_dimensions": None if reference.residual is None else reference.residual.axes.shape[1],
        "card": None if reference.card is None else dataclasses.asdict(reference.card),
    }


def _triple(flag: str, text: str) -> tuple[float, float, float]:
    try:
        a, b, c = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: give three numbers, as 0.485,0.456,0.406") from error
    return a, b, c


def _argument(text: str) -> tuple[str, object]:
    import json

    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise UsageError(f"--argument {text!r}: write NAME=VALUE, as num_classes=10")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
