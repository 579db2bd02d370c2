"""The command coverage: what is new in production, and what is no longer there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipeline.cli.output import (
    Database,
    Deployment,
    Device,
    Dtype,
    Json,
    Model,
    check_page,
    note,
    print_json,
    progress_bar,
    table_console,
    write_page,
)
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.assembly.coverage_rows import Window
    from pipeline.assembly.covering import CoverageRequest, Features, Images, Stored
    from pipeline.scoring.matched_null import Figure
    from pipeline.stages.coverage_report import CoverageReport, ShownImage

_REFERENCE, _PRODUCTION = "Reference", "Production"
_NAMES = {"p_precision": "P-precision", "p_recall": "P-recall", "p_recall_in_support": "P-recall in support"}


def coverage(
    reference: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A stored one. Default: the deployment's.", rich_help_panel=_REFERENCE),
    ] = None,
    reference_features: Annotated[
        Path | None, typer.Option(metavar="R.npy|R.npz", help="Features, (n, D).", rich_help_panel=_REFERENCE)
    ] = None,
    reference_images: Annotated[
        Path | None, typer.Option(metavar="A", help="Images, with --model.", rich_help_panel=_REFERENCE)
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Stored samples from.", rich_help_panel=_PRODUCTION)
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Stored samples before.", rich_help_panel=_PRODUCTION)
    ] = None,
    segment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of them, one segment's.", rich_help_panel=_PRODUCTION)
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="P.npy|P.npz", help="Features, (m, D).", rich_help_panel=_PRODUCTION)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="B", help="Images, with --model.", rich_help_panel=_PRODUCTION)
    ] = None,
    model: Model = None,
    a: Annotated[float, typer.Option("--a", help="Radius, in mean distances to the k-th neighbour.")] = 1.2,
    k: Annotated[int, typer.Option("--k", help="Which neighbour.")] = 4,
    dimensions: Annotated[
        str | None,
        typer.Option(
            metavar="d|all", help="Principal axes of the reference. Default: as stored; 16 of images; all of a file."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report with pictures as one page.")] = None,
    database: Database = None,
    deployment: Deployment = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """What does production show that the reference never had, and what does it no longer show?

    P-precision is how well the reference's images support production's: low
    where something is new. P-recall is how well production covers the
    reference's: low where something is gone, as a lost camera, which no score
    of single images can see (Park and Kim 2023). Neither is 1 without a
    change: z says how far each is from windows of the reference itself, and
    below -4 it is named, with the classes and pictures that it concerns.

    P-recall in support leaves out images that the reference does not support
    at all: a few far outliers raise P-recall, whatever is lost. A different
    mix of classes lowers it too, though nothing is gone.

    For generated images: fidelity and diversity, with the real ones as
    --reference-images and the generated ones as --images.

    An explanation, no alarm: that is the monitor's coverage signal. Exit code
    1: some images could not be scored, or all of production are the same.

    Example: oodwatch coverage --from 2026-11-24T03:00Z --to 2026-11-24T09:00Z
    --html coverage.html
    """
    import numpy as np

    from pipeline.assembly.covering import CoverageRequest, run_coverage
    from pipeline.assembly.parts import settings_from
    from pipeline.scoring.precision_recall import Degenerate
    from pipeline.stages.coverage_report import Plan

    check_page(html)
    request = CoverageRequest(
        reference=_reference(reference, reference_features, reference_images),
        production=_production(start, end, segment, features, images),
        plan=Plan(a, k, pictures=12 if html is not None else 5),
        dimensions=_dimensions(dimensions),
    )
    _check_sides(request)
    settings = settings_from(model=model, database=database, deployment=deployment, device=device, dtype=dtype)
    with progress_bar("reading", None, quiet=as_json) as bar:
        report, failed = run_coverage(
            settings,
            request,
            rng=np.random.default_rng(0),
            on_start=lambda total: bar.set(0, total),
            progress=bar.advance,
        )
    for file, why in failed[:10]:
        note(f"skipped {file}: {why}")
    for warning in report.warnings:
        note(warning)
    print_json(report_line(report)) if as_json else _print_report(report)
    if html is not None:
        from pipeline.reports.coverage_page import coverage_page

        write_page(html, coverage_page(report))
    if failed or Degenerate.PRODUCTION_EQUAL in report.measured.degenerate:
        raise typer.Exit(1)


def report_line(report: CoverageReport) -> dict[str, Any]:
    """The report as one JSON object."""
    measured = report.measured
    images = sum(line.images for line in report.traffic)
    return {
        "reference": report.reference,
        "production": report.production,
        **{line.name: line.value for line in report.figures},
        **{f"z_{line.name}": None if line.matched is None else line.matched.z for line in report.figures},
        "n_reference": report.n_reference,
        "n_production": report.n_production,
        "dimensions": report.dimensions,
        "a": report.plan.a,
        "k": report.plan.k,
        "distinct_share": report.distinct_share,
        "outside_support": report.outside,
        "radius_reference": measured.radius_reference,
        "radius_production": measured.radius_production,
        "findings": [finding.code for finding in report.findings],
        "degenerate": [str(name) for name in measured.degenerate],
        "warnings": list(report.warnings),
        "matched": {line.name: _figure(line.matched) for line in report.figures},
        "window": report.window,
        "lost": [line.group for line in report.groups if line.is_lost],
        "groups": [{"group": line.group, "n": line.n, **_figure(line.coverage)} for line in report.groups],
        "segments": [
            {
                "segment": line.segment,
                "n": line.n,
                "p_precision": line.p_precision,
                "z": None if line.normal is None else line.normal.z,
                "flagged": line.flagged,
            }
            for line in report.segments
        ],
        "images": images,
        "flagged": sum(line.flagged * line.images for line in report.traffic) / images if images else None,
        "least_covered": [_image(one) for one in report.least_covered],
        "least_supported": [_image(one) for one in report.least_supported],
    }


def _figure(figure: Figure | None) -> dict[str, float]:
    return {} if figure is None else figure._asdict()


def _image(one: ShownImage) -> dict[str, Any]:
    return {"name": one.name, "group": one.group, "value": one.value, "normal": one.normal}


def _print_report(report: CoverageReport) -> None:
    console = table_console()
    console.print(
        f"{report.n_production:,} images of {report.production} held against {report.n_reference:,} of"
        f" {report.reference}, {report.dimensions} dimensions",
        style="bold",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "value", "of a window", "normal", "spread", "z"):
        table.add_column(name, justify="right" if name else "left")
    for line in report.figures:
        cells = [] if line.matched is None else [f"{part:.3f}" for part in line.matched[:3]] + [f"{line.matched.z:.1f}"]
        table.add_row(_NAMES[line.name], "" if line.value is None else f"{line.value:.3f}", *cells)
    console.print(table)
    if len(report.segments) > 1:
        console.print(_segments(report))
    for finding in report.findings:
        console.print(finding.text, style="red", soft_wrap=True)
    if not report.findings and report.compared is not None:
        console.print("nothing new, and nothing gone, as far as windows of this size can tell", style="green")


def _segments(report: CoverageReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("segment", "images", "P-precision", "z", "flagged"):
        table.add_column(name, justify="left" if name == "segment" else "right")
    for line in report.segments:
        z = "" if line.normal is None else f"{line.normal.z:.1f}"
        flagged = "" if line.flagged is None else f"{line.flagged:.1%}"
        table.add_row(line.segment, f"{line.n:,}", f"{line.p_precision:.3f}", z, flagged)
    return table


def _reference(name: str | None, features: Path | None, images: Path | None) -> Stored | Features | Images:
    from pipeline.assembly.covering import Features, Images, Stored

    if sum(one is not None for one in (name, features, images)) > 1:
        raise UsageError("name one reference: --reference NAME, --reference-features FILE or --reference-images DIR")
    if features is not None:
        return Features(features)
    return Stored(name) if images is None else Images(images)


def _production(
    start: str | None, end: str | None, segment: str | None, features: Path | None, images: Path | None
) -> Window | Features | Images:
    from pipeline.assembly.coverage_rows import Window
    from pipeline.assembly.covering import Features, Images
    from pipeline.assembly.sources import parse_time

    window = start is not None or end is not None
    if sum((window, features is not None, images is not None)) != 1:
        raise UsageError("name one side of production: --from with --to, --features FILE or --images DIR")
    if segment is not None and not window:
        raise UsageError("--segment: belongs to --from and --to")
    if features is not None:
        return Features(features)
    if images is not None:
        return Images(images)
    if start is None or end is None:
        raise UsageError("stored samples need both --from and --to")
    times = parse_time("--from", start), parse_time("--to", end)
    if not times[0] < times[1]:
        raise UsageError(f"--from {start} must lie before --to {end}")
    return Window(*times, segment)


def _check_sides(request: CoverageRequest) -> None:
    from pipeline.assembly.covering import Stored

    if isinstance(request.reference, Stored) and request.dimensions is not None:
        raise UsageError("--dimensions: a stored reference has its own; it belongs to files and folders")


def _dimensions(text: str | None) -> int | None:
    from pipeline.assembly.covering import ALL_FEATURES

    if text is None or text == "all":
        return None if text is None else ALL_FEATURES
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--dimensions {text!r}: write a whole number of at least 1, or all")
    return int(text)
