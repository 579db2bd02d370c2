"""The command retrain-head: a model gets a new last layer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.finetuning import check_shares
from pipeline.cli.output import Database, Deployment, Device, Dtype, Json, Model, note, print_json, progress_bar
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.assembly.retraining import FeatureRows, ImageRows, RetrainedModel, StoredRows


def retrain_head(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The package to make.")],
    features: Annotated[
        Path | None,
        typer.Option(metavar="F.npz", help="x (n, D) features, y (n,) classes, g (n,) groups; perhaps model, its id."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Image files; their groups are in --groups.")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="F.csv",
            help="Columns file (below --images) or id (of messages, with --stored), group, label. ood: an outlier.",
        ),
    ] = None,
    stored: Annotated[
        bool,
        typer.Option("--stored", help="Samples in the database. Default label: the message's; group: the segment."),
    ] = False,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="With --stored: event time from.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="With --stored: event time before.")] = None,
    outliers: Annotated[
        Path | None, typer.Option(metavar="IMAGES|F.npz", help="Reviewed outliers: images, or x of an .npz.")
    ] = None,
    energy_weight: Annotated[
        float, typer.Option(metavar="W", help="Of the energy bounds; 0.1 in the paper. 0: outliers only judge.")
    ] = 0.0,
    m_in: Annotated[float | None, typer.Option(metavar="NATS", help="See oodwatch finetune.")] = None,
    m_out: Annotated[float | None, typer.Option(metavar="NATS", help="See oodwatch finetune.")] = None,
    strength: Annotated[
        list[float] | None,
        typer.Option(metavar="C", help="Inverse of the L2 penalty; of several the best is taken. Default: 1 to 0.01."),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Balanced samples; their heads are averaged.")
    ] = 10,
    calibration: Annotated[
        Path | None, typer.Option(metavar="IMAGES", help="Normal images: makes the new package's reference at once.")
    ] = None,
    model: Model = None,
    database: Database = None,
    deployment: Deployment = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N")] = 0,
    target_fpr: Annotated[float, typer.Option(help="Share of normal images that a threshold may flag.")] = 0.05,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace DIR; leave small groups out; few outliers will do; write what is worse."),
    ] = False,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Retrain the last layer on balanced groups: what a model learnt from a background, it forgets (DFR).

    A group is a class with an attribute, as a camera. 30 % of every group are
    kept for the report. From the rest, N samples with as many rows of each
    group as the smallest has; a multinomial logistic regression on each; the
    mean of the heads (Kirichenko et al. 2023). The backbone stays.

    The mean over the classes of W and b stays the old head's, so that
    energies keep their scale; with --energy-weight normal rows are pushed
    below m_in and outliers above m_out, and that decides it.

    Every new head needs a new reference: the old one is refused for it, and
    the report shows what the old threshold would flag. Refused with exit code
    3: a group of fewer than 20 rows, a class without rows, labels that are no
    class, another model's features, and a result that is worse (its worst
    group, or its mean by a point), unless --force.

    Example: oodwatch retrain-head --model models/resnet20 --images photos --groups groups.csv --out models/resnet20-b
    """
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.retraining import RetrainRequest, run_retraining
    from pipeline.scoring.energy_bounded import EnergyBounds
    from pipeline.training.last_layer_retraining import STRENGTHS

    rows = _rows(features, images, groups, stored, start, end)
    check_shares(target_fpr, "--energy-weight", energy_weight)
    if m_in is not None and m_out is not None:
        EnergyBounds(m_in, m_out, energy_weight)
    strengths = tuple(sorted(set(strength), reverse=True)) if strength else STRENGTHS
    if not min(strengths) > 0:
        raise UsageError(f"--strength {min(strengths)}: must be above 0")
    request = RetrainRequest(
        rows=rows,
        outliers=outliers,
        calibration=calibration,
        out=out,
        weight=energy_weight,
        m_in=m_in,
        m_out=m_out,
        strengths=strengths,
        resamples=resamples,
        seed=seed,
        target_fpr=target_fpr,
        force=force,
    )
    settings = settings_from(model=model, database=database, deployment=deployment, device=device, dtype=dtype)
    with progress_bar("fitting", request.fits, quiet=as_json) as bar:
        made = run_retraining(settings, request, progress=bar.advance, say=note)
    _print_retrained(made, as_json)


def _rows(
    features: Path | None, images: Path | None, groups: Path | None, stored: bool, start: str | None, end: str | None
) -> FeatureRows | ImageRows | StoredRows:
    from pipeline.assembly.retraining import FeatureRows, ImageRows, StoredRows
    from pipeline.assembly.sources import parse_time

    if [features is not None, images is not None, stored].count(True) != 1:
        raise UsageError("name one source of rows: --features F.npz, --images DIR with --groups F.csv, or --stored")
    if not stored and (start or end):
        raise UsageError("--from and --to belong to --stored; leave them out")
    if features is not None:
        if groups is not None:
            raise UsageError("--groups belongs to --images and --stored; the groups of an .npz are its `g`")
        return FeatureRows(features)
    if images is not None:
        if groups is None:
            raise UsageError("--images needs --groups F.csv, with the columns file, group and label")
        return ImageRows(images, groups)
    return StoredRows(
        None if start is None else parse_time("--from", start), None if end is None else parse_time("--to", end), groups
    )


def _print_retrained(made: RetrainedModel, as_json: bool) -> None:
    from pipeline.cli.repair_tables import print_head_report

    reference = None if made.calibration is None else made.calibration.reference
    if as_json:
        print_json(
            {
                "package": str(made.package.path),
                "model": made.package.model_id,
                "reference": None if reference is None else reference.name,
                "threshold": None if reference is None else reference.threshold,
                "strength": made.strength,
                "bounds": None if made.bounds is None else dataclasses.asdict(made.bounds),
                "fitted": made.fitted,
                **dataclasses.asdict(made.report),
            }
        )
        return
    print_head_report(made.report, made.fitted)
    typer.echo(f"{made.package.path}: {made.package.model_id}, C = {made.strength:g}")
    if reference is None:
        note(f"next: oodwatch calibrate --model {made.package.path} IMAGES: no old reference fits the new head")
    else:
        note(f"next: oodwatch models register {made.package.path}, or a worker with it as --model ({reference.name})")
