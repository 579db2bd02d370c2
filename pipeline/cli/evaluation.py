"""The command evaluate: how well does the score separate, as a table, JSON lines or a page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from pipeline.cli.output import (
    Database,
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
    from pipeline.evaluate import Average, Evaluation, ScoreReport
    from pipeline.scoring.evaluation import Separation


def evaluate(
    id_set: Annotated[str, typer.Option("--id", metavar="[NAME=]SET", help="In-distribution images, not trained on.")],
    ood: Annotated[
        list[str], typer.Option("--ood", metavar="NAME=SET", help="Images that should look unusual; repeatable.")
    ],
    model: Model = None,
    temperature: Annotated[
        list[float] | None, typer.Option(metavar="T", help="T of the energy; repeatable. Default 1, the paper's.")
    ] = None,
    target_fpr: Annotated[float, typer.Option(help="Share of ID images that threshold_conformal may flag.")] = 0.05,
    residual_dimensions: Annotated[
        str, typer.Option(metavar="auto|d", help="Of energy+residual. auto: a quarter of the features.")
    ] = "auto",
    detector: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="One of pytorch-ood's, as KNN; repeatable. Needs oodwatch[pytorch-ood]."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report as one page.")] = None,
    database: Database = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """How well does a score separate your images from others, and how do I choose the threshold?

    A SET is a folder of images (class folders give labels), a CSV with the
    columns file and label, an .npz with `logits` (and perhaps `labels`,
    `features`; no model is needed), or what a worker kept: samples:DEPLOYMENT
    or samples:DEPLOYMENT/SEGMENT.

    Scores, each higher for more unusual images: energy = -T log sum
    exp(logits / T), softmax = minus the largest probability, max_logit =
    minus the largest logit, energy+residual = energy plus the distance of the
    features from the space that normal images fill (fitted on 30 % of the ID
    images, measured on the others). Detectors of the library pytorch-ood are
    fitted on the same images: KNN, Mahalanobis, RMD, ViM and SHE (features),
    Entropy, KLMatching and TemperatureScaling (logits).

    FPR95 is the share of OOD images that pass while 95 % of the ID images are
    kept: 0 % is perfect, 95 % is a guess. This is the paper's convention, ID
    being positive. pytorch-ood and OpenOOD call something else FPR95: the
    share of ID images lost while 95 % of the OOD images are caught; it has a
    column of its own. `official` counts as the authors' code does, which is
    up to a point higher on small sets. AUROC 50 % is a guess. AUPR depends on
    the sizes of the two sets: compare it only between equal ratios.

    The threshold. threshold_fpr95 keeps 95 % of these ID images and belongs
    to the figures here. For production take threshold_conformal, which
    `calibrate` computes on images of its own: a new normal image exceeds it
    with at most 5 % probability. Never choose the temperature by these
    figures on images that you then calibrate on.

    JSON lines: one a set, score and temperature; low and high are the 95 %
    interval of fpr95.

    Example: oodwatch evaluate --model models/resnet20 --id test-images --ood
    svhn=svhn --ood noise=noise --html r.html
    """
    from pipeline.assembly.evaluating import run_evaluation
    from pipeline.assembly.parts import settings_from
    from pipeline.cli.model import parse_dimensions
    from pipeline.evaluate import Plan
    from pipeline.scoring.pytorch_ood import check_detectors

    temperatures = tuple(dict.fromkeys(temperature or [1.0]))
    if min(temperatures) <= 0:
        raise UsageError(f"--temperature {min(temperatures)}: must be above 0")
    if not 0 < target_fpr < 1:
        raise UsageError(f"--target-fpr {target_fpr}: must lie between 0 and 1")
    detectors = tuple(dict.fromkeys(detector or ()))
    check_detectors(detectors)
    check_page(html)
    settings = settings_from(model=model, database=database, device=device, dtype=dtype)
    pictures = 12 if html is not None else 0
    plan = Plan(temperatures, target_fpr, parse_dimensions(residual_dimensions), pictures, detectors)
    with progress_bar("evaluating", None) as bar:
        made, failed, classes = run_evaluation(
            settings, id_set, named_sets(ood), plan, on_start=lambda total: bar.set(0, total), progress=bar.advance
        )
    for file, why in failed[:10]:
        note(f"skipped {file}: {why}")
    if len(failed) > 10:
        note(f"... and {len(failed) - 10} more")
    if made.no_residual:
        note(f"without energy+residual: {made.no_residual}")
    _print_lines(made) if as_json else _print_tables(made)
    if html is not None:
        from pipeline.reports.evaluation_page import evaluation_page

        write_page(html, evaluation_page(made, classes))
    if failed:
        raise typer.Exit(1)


_LEGEND = (
    "FPR95: OOD that passes while 95 % of ID is kept, with its 95 % interval; green is best. ID lost: ID rejected while"
    " 95 % of OOD is caught,\nwhich pytorch-ood and OpenOOD call FPR95. More in oodwatch evaluate --help."
)


def named_sets(texts: list[str]) -> list[tuple[str, str]]:
    """NAME=SET each. Raises UsageError for another form, and for a name that is given twice."""
    named: dict[str, str] = {}
    for text in texts:
        name, separator, where = text.partition("=")
        if not separator or not name or not where:
            raise UsageError(f"--ood {text!r}: write NAME=SET, as svhn=photos/svhn")
        if name in named:
            raise UsageError(f"--ood {name}: named twice; give each set a name of its own")
        named[name] = where
    return list(named.items())


def _print_lines(made: Evaluation) -> None:
    accuracies = {ood.name: ood.accuracy for ood in made.oods}
    for ood in made.oods:
        for report in made.scores:
            figures = report.separations[ood.name]
            print_json(
                {
                    "ood": ood.name,
                    "score": report.score,
                    "temperature": report.temperature,
                    "fpr95": figures.fpr95,
                    "fpr95_official": figures.fpr95_official,
                    "auroc": figures.auroc,
                    "aupr_in": figures.aupr_in,
                    "aupr_out": figures.aupr_out,
                    "low": figures.low,
                    "high": figures.high,
                    "fpr95_ood_positive": figures.fpr95_ood_positive,
                    "threshold_fpr95": report.threshold_fpr95,
                    "threshold_conformal": report.threshold_conformal,
                    "flagged": report.flagged[ood.name],
                    "n_ood": figures.n,
                    "accuracy_ood": accuracies[ood.name],
                    "mean_ood": report.means[ood.name],
                    "n_id": report.n_id,
                    "accuracy": made.ids.accuracy,
                    "mean_id": report.id_mean,
                }
            )


def _print_tables(made: Evaluation) -> None:
    console = table_console()
    accuracy = "" if made.ids.accuracy is None else f", accuracy {made.ids.accuracy:.2%}"
    console.print(Text(f"ID {made.ids.name}: {made.ids.n:,} images{accuracy}", style="bold"))
    if made.dimensions is not None:
        d, width = made.dimensions
        console.print(
            f"energy+residual: {d} of {width} dimensions, fitted on {made.n_fit:,} ID images, measured on the others"
        )
    console.print()
    console.print(_thresholds(made))
    console.print()
    console.print(_figures(made))
    console.print()
    console.print(_LEGEND, style="dim", soft_wrap=True)


def _thresholds(made: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("score", "T", "ID images", "threshold_fpr95", "threshold_conformal"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for report in made.scores:
        table.add_row(
            report.score,
            _temperature(report),
            f"{report.n_id:,}",
            f"{report.threshold_fpr95:.4f}",
            f"{report.threshold_conformal:.4f}",
        )
    return table


def _figures(made: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("OOD", "score", "T", "FPR95", "interval", "official", "AUROC", "AUPR-in", "AUPR-out", "ID lost"):
        table.add_column(name, justify="left" if name in {"OOD", "score", "interval"} else "right")
    for ood in made.oods:
        under = [f"{ood.n:,} images"] + ([] if ood.accuracy is None else [f"accuracy {ood.accuracy:.1%}"])
        _add_group(table, made.scores, [report.separations[ood.name] for report in made.scores], ood.name, under)
    if len(made.oods) > 1:
        _add_group(
            table, made.scores, [report.average for report in made.scores], "average", [f"{len(made.oods)} sets"]
        )
    return table


def _add_group(
    table: Table,
    reports: Sequence[ScoreReport],
    rows: Sequence[Separation | Average],
    name: str,
    under: Sequence[str],
) -> None:
    """The rows of one OOD set; its name and what lies `under` it go down the first column."""
    if table.row_count:
        table.add_row()
    best_fpr = min(figures.fpr95 for figures in rows)
    best_auroc = max(figures.auroc for figures in rows)
    first_column = [Text(name, style="bold"), *(Text(line, style="dim") for line in under)]
    for report, figures, first in zip_longest(reports, rows, first_column[: len(rows)], fillvalue=None):
        assert report is not None
        assert figures is not None
        table.add_row(
            first or "",
            report.score,
            _temperature(report),
            Text(f"{figures.fpr95:.1%}", style="bold green" if figures.fpr95 == best_fpr else ""),
            f"{figures.low:.0%}-{figures.high:.0%}",
            f"{figures.fpr95_official:.1%}",
            Text(f"{figures.auroc:.1%}", style="bold green" if figures.auroc == best_auroc else ""),
            f"{figures.aupr_in:.1%}",
            f"{figures.aupr_out:.1%}",
            f"{figures.fpr95_ood_positive:.1%}",
        )


def _temperature(report: ScoreReport) -> str:
    return f"{report.temperature:g}" if report.score.startswith("energy") else ""
