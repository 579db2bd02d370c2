"""The command explain: where in an image it is strange."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipeline.cli.output import (
    Database,
    Deployment,
    Device,
    Json,
    Model,
    Source,
    note,
    print_json,
    progress_bar,
    table_console,
)
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.assembly.explaining import Answer
    from pipeline.localization.explainer import Question
    from pipeline.settings import Settings


_SHOWN = 10  # regions in the table


def explain(
    image: Annotated[Path | None, typer.Argument(help="An image file.")] = None,
    record_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="A scored image by its id.")] = None,
    flagged: Annotated[
        bool, typer.Option("--flagged", help="Flagged samples that are not explained yet, the newest first.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="So many, with --flagged.")] = 100,
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="x,y[,0|1]", help="In the region, or with 0 outside of it; repeatable. Pixels."),
    ] = None,
    box: Annotated[str | None, typer.Option(metavar="x0,y0,x1,y1", help="Around the region.")] = None,
    mask: Annotated[Path | None, typer.Option(metavar="FILE", help="The region, white on black.")] = None,
    text: Annotated[str | None, typer.Option(metavar="WORDS", help="What the region shows; needs --grounder.")] = None,
    auto: Annotated[bool, typer.Option("--auto", help="All regions; the default where nothing is pointed at.")] = False,
    refine: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="The first point's mask K, refined by the further points."),
    ] = None,
    single: Annotated[bool, typer.Option("--single", help="One mask also for a lone point.")] = False,
    model: Model = None,
    sam: Annotated[Path | None, typer.Option(metavar="DIR", help="A Segment Anything model, a local folder.")] = None,
    grounder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A zero-shot detector, a local folder; for --text.")
    ] = None,
    points_per_side: Annotated[
        int | None, typer.Option(min=1, max=64, metavar="N", help="Grid of --auto. Default: 12.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="OVERLAY.png", help="Write what was found as a picture.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Answer the dashboard's pages, on this machine alone, until a signal.")
    ] = False,
    address: Annotated[str | None, typer.Option("--address", help="Of --serve. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Of --serve. Default: 8502.")] = None,
    source: Source = None,
    database: Database = None,
    deployment: Deployment = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Where in an image is it strange? Point at a thing and see whether it raised the energy.

    Each region is filled from its surroundings, and the whole image scored
    again: what the energy then loses, the region accounts for. Crops are
    never scored: a crop is itself unlike anything the model has seen.

    A lone --point may mean a part, a thing or what it belongs to: it gets
    three masks with scores. Further points, a box or a drawn mask settle it;
    --refine K goes on from mask K of the first point. --auto finds regions by
    itself and says which one explains the image, or that no single one does:
    it must account for 1 nat, and for a quarter of what the image lies above
    normal ones.

    --sam names a model of transformers' SamModel (the extra "explain"). Its
    encoder runs once an image; a click then costs a decode. Without it,
    connected pieces of similar colour stand in, and are called so.

    An image named by --id is read from the log (--source), else its thumbnail
    is explained. --flagged stores what it finds; --id shows it again. --serve
    is what the dashboard's page Samples asks when somebody clicks on a picture.

    JSON: masks (COCO's uncompressed runs, columns first), mask_score (the
    segmenter's), energy_change (after minus before, nats; below 0 the image
    became more familiar), class_change.

    Example: oodwatch explain odd.jpg --model models/resnet20 --sam models/sam --point 120,80 --out odd.png
    """
    from pipeline.assembly.explaining import Explaining

    if sum((image is not None, record_id is not None, flagged, serve)) != 1:
        raise UsageError("name an image file, or --id, or --flagged, or --serve: exactly one of them")
    pointed = bool(point or box or mask)
    if sum((pointed, text is not None, auto)) > 1 or (
        (flagged or serve) and (pointed or text is not None or out is not None)
    ):
        raise UsageError("--auto, --text and pointing (--point, --box, --mask) exclude each other; --flagged is --auto")
    if out is not None and not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.absolute().parent}")
    settings = _settings(model, database, source, deployment, device, sam, grounder, points_per_side)
    if serve:
        _serve(settings, address, port)
        return
    question = _question(settings, point or [], box, mask, text, refine, single)
    with Explaining(settings, text=text is not None) as explaining:
        if flagged:
            _explain_flagged(explaining, limit, as_json)
            return
        if image is not None:
            answer = explaining.file(image, question)
        else:
            assert record_id is not None
            answer = explaining.stored(record_id, question, anew=out is not None)
    if out is not None:
        _write_overlay(out, answer)
    print_json(answer.values) if as_json else _print(answer.values)


def _serve(settings: Settings, address: str | None, port: int | None) -> None:
    from pipeline.assembly.explain_service import ExplainService
    from pipeline.assembly.explaining import Explaining

    where = settings.explain
    with Explaining(settings) as explaining:
        service = ExplainService(explaining, address or where.address, where.port if port is None else port)
        note(f"explaining at {service.url} by {explaining.segmenter}; Ctrl-C ends it")
        service.run()


def _explain_flagged(explaining: Any, limit: int, as_json: bool) -> None:
    with progress_bar("explaining", None) as bar:
        done, failed = explaining.flagged(limit, bar.advance)
    for name, why in failed[:10]:
        note(f"skipped {name}: {why}")
    if as_json:
        print_json({"explained": done, "failed": len(failed)})
    else:
        typer.echo(f"{done} flagged samples explained" + (f", {len(failed)} could not be" if failed else ""))
    if failed:
        raise typer.Exit(1)


def _settings(
    model: Path | None,
    database: str | None,
    source: str | None,
    deployment: str | None,
    device: str | None,
    sam: Path | None,
    grounder: Path | None,
    points_per_side: int | None,
) -> Settings:
    from pipeline.assembly.parts import settings_from
    from pipeline.settings import load_settings

    settings = settings_from(model=model, database=database, source=source, deployment=deployment, device=device)
    given = {"sam": sam, "grounder": grounder, "points_per_side": points_per_side}
    chosen = {name: value for name, value in given.items() if value is not None}
    return load_settings(**{**dict(settings), "explain": {**settings.explain.model_dump(), **chosen}})


def _question(
    settings: Settings,
    points: list[str],
    box: str | None,
    mask: Path | None,
    text: str | None,
    refine: int | None,
    single: bool,
) -> Question:
    from pipeline.assembly.explaining import read_pixels
    from pipeline.localization.explainer import Question
    from pipeline.localization.regions import Box
    from pipeline.localization.segmenter import Point, Prompt

    if refine is not None and len(points) < 2:
        raise UsageError("--refine needs a further point: give the first --point again, and then others")
    if not (points or box or mask):
        return Question(text=text)
    clicks = []
    for value in points:
        numbers = _numbers("--point", value, "x,y or x,y,0")
        if len(numbers) not in {2, 3} or numbers[2:] not in ([], [0.0], [1.0]):
            raise UsageError(f"--point {value!r}: write x,y or x,y,0 for a point outside of the region")
        clicks.append(Point(numbers[0], numbers[1], numbers[2:] != [0.0]))
    corners = None if box is None else _numbers("--box", box, "left,top,right,bottom")
    if corners is not None and len(corners) != 4:
        raise UsageError(f"--box {box!r}: write left,top,right,bottom")
    drawn = None if mask is None else read_pixels(mask, settings)[0].max(axis=2) > 127
    prompt = Prompt(tuple(clicks), None if corners is None else Box(*corners), drawn, wants_one=single)
    return Question(prompt, choice=None if refine is None else refine - 1)


def _numbers(flag: str, text: str, form: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: write {form}, numbers of pixels") from error


def _write_overlay(path: Path, answer: Answer) -> None:
    from pipeline.localization.overlay import overlay

    assert answer.explanation is not None
    try:
        path.write_bytes(overlay(answer.explanation))
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror or error}") from error
    note(f"wrote {path}")


def _print(values: Mapping[str, Any]) -> None:
    console = table_console()
    flag = {None: "", True: ", flagged", False: ", not flagged"}[values["is_ood"]]
    seen = f"{values['image']}: {values['class']}, {values['score_name']} {values['score']:.2f} nats"
    against = "" if values["reference"] is None else f" (normal {values['normal_score']:.2f}, {values['reference']})"
    console.print(f"{seen}{against}{flag}", markup=False)
    if values["picture"] == "thumbnail":
        note("the original is not at hand: this explains its thumbnail; name the log with --source")
    console.print(f"segmenter: {values['segmenter']}", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "from", "mask score", "area", "score, filled", "change", "class, filled"):
        table.add_column(name, justify="left" if name in {"from", "class, filled"} else "right")
    for number, region in enumerate(values["masks"][:_SHOWN], start=1):
        filled = region["score_change"] is not None
        table.add_row(
            str(number),
            region["source"],
            "" if region["mask_score"] is None else f"{region['mask_score']:.2f}",
            f"{region['share']:.1%}",
            f"{values['score'] + region['score_change']:.2f}" if filled else "",
            f"{region['score_change']:+.2f}" if filled else "nothing to fill",
            "" if region["class_change"] is None else " -> ".join(region["class_change"]),
        )
    if values["masks"]:
        console.print(table)
    if (more := len(values["masks"]) - _SHOWN) > 0:
        console.print(f"... and {more} more, in --json")
    console.print(values["verdict"], markup=False)
