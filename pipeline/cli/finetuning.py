"""The command finetune: a model is trained on, its energies bounded."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.evaluation import named_sets
from pipeline.cli.output import Database, Device, Dtype, Json, Model, note, print_json, progress_bar
from pipeline.cli.run import stop_on_signals
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.assembly.finetuning import Finetuned
    from pipeline.training.energy_finetuning import StepMetrics

_SHOWN_STEPS = 20  # lines of metrics in a training, however long it is


def finetune(
    ids: Annotated[
        Path, typer.Option("--id", metavar="IMAGES", help="Labelled normal images: class folders, or a CSV.")
    ],
    outliers: Annotated[
        Path, typer.Option(metavar="IMAGES", help="Images of anything else, as varied as you have; no labels.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The package to make.")],
    model: Model = None,
    database: Database = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGES",
            help="Normal images that no training has seen, for report and reference. Default: 30 % of --id, which"
            " this training then leaves alone.",
        ),
    ] = None,
    ood: Annotated[
        list[str] | None, typer.Option(metavar="NAME=IMAGES", help="More sets to report about; repeatable.")
    ] = None,
    m_in: Annotated[
        float | None, typer.Option(metavar="NATS", help="Normal energies are pushed below it. Default: see above.")
    ] = None,
    m_out: Annotated[
        float | None, typer.Option(metavar="NATS", help="Outliers' energies are pushed above it. Default: see above.")
    ] = None,
    weight: Annotated[float, typer.Option(metavar="W", help="Of the energy bounds beside the cross-entropy.")] = 0.1,
    steps: Annotated[int, typer.Option(min=1, metavar="N")] = 1000,
    batch: Annotated[int, typer.Option(min=2, metavar="N", help="Normal images a step, and as many outliers.")] = 64,
    lr: Annotated[float, typer.Option(metavar="R", help="Learning rate at the start; falls to 1e-6.")] = 1e-3,
    augment: Annotated[
        Literal["flip+crop", "crop", "none"],
        typer.Option(help="Use crop or none where a mirrored image means something else, as with digits."),
    ] = "flip+crop",
    seed: Annotated[int, typer.Option(min=0, metavar="N")] = 0,
    target_fpr: Annotated[float, typer.Option(help="Of the new reference: share of normal images flagged.")] = 0.05,
    checkpoint_every: Annotated[int, typer.Option(min=1, metavar="STEPS")] = 100,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from DIR.checkpoint.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace DIR; write the package although it is worse; few outliers will do.")
    ] = False,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a model so that normal images get low energies and outliers high ones (Liu et al. 2020).

    Loss: cross-entropy + W * (mean max(0, E - m_in)^2 over normal images +
    mean max(0, m_out - E)^2 over outliers), both in one forward pass.

    Default margins, from the model's own energies before the training: m_in =
    mean of the normal images - 1; m_out = mean of the outliers, or of the
    normal images where that is higher, + 3. The paper's -23 and -5 belong to
    its own networks.

    30 % of the outliers are never trained on; they, --ood and the calibration
    images make the report. The new package gets a reference of its own in the
    database: energies of two models cannot be compared, and an old reference
    is refused for it. A result that is worse (accuracy by more than a point,
    or a lower AUROC) ends with exit code 3.

    Ctrl-C ends after the step with a checkpoint; --resume goes on, bit for
    bit on the same kind of machine.

    Example: oodwatch finetune --model models/resnet20 --id train --outliers others --out models/resnet20-ft
    """
    from pipeline.assembly.finetuning import FinetuneRequest, run_finetuning
    from pipeline.assembly.finetuning_sets import Named
    from pipeline.assembly.parts import settings_from
    from pipeline.scoring.energy_bounded import EnergyBounds

    if m_in is not None and m_out is not None:
        EnergyBounds(m_in, m_out, weight)
    check_shares(target_fpr, "--weight", weight)
    if not lr > 0:
        raise UsageError(f"--lr {lr}: must be above 0")
    settings = settings_from(model=model, database=database, device=device, dtype=dtype)
    others = [(name, Path(where)) for name, where in named_sets(ood or [])]
    if "outliers" in dict(others):
        raise UsageError("--ood outliers=...: that name is taken by the held-out part of --outliers; name it otherwise")
    request = FinetuneRequest(
        sets=Named(ids, outliers, calibration, others),
        out=out,
        m_in=m_in,
        m_out=m_out,
        weight=weight,
        steps=steps,
        batch=batch,
        rate=lr,
        augmentation=augment,
        seed=seed,
        target_fpr=target_fpr,
        checkpoint_every=checkpoint_every,
        resume=resume,
        force=force,
    )
    stop = stop_on_signals()
    with progress_bar("training", steps, quiet=as_json) as bar:

        def on_step(metrics: StepMetrics) -> None:
            bar.set(metrics.step)
            if metrics.step % max(1, steps // _SHOWN_STEPS) == 0 or metrics.step in {1, steps}:
                _print_step(metrics, as_json)

        made = run_finetuning(settings, request, stop=stop.is_set, on_step=on_step, say=note)
    if made is None:
        raise typer.Exit(130)
    _print_finetuned(made, as_json)


def check_shares(target_fpr: float, flag: str, weight: float) -> None:
    """Raises UsageError for a share outside 0..1, and for a negative weight."""
    if not 0 < target_fpr < 1:
        raise UsageError(f"--target-fpr {target_fpr}: must lie between 0 and 1")
    if not weight >= 0:
        raise UsageError(f"{flag} {weight}: must be 0 or more")


def _print_step(metrics: StepMetrics, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(metrics))
        sys.stdout.flush()  # live, also in a pipe
        return
    note(
        f"step {metrics.step:,}/{metrics.steps:,}  loss {metrics.loss:.3f} = {metrics.cross_entropy:.3f} + bounds"
        f" {metrics.hinge_in:.2f}, {metrics.hinge_out:.2f}  energy {metrics.energy_in:.2f} normal,"
        f" {metrics.energy_out:.2f} outliers  accuracy {metrics.accuracy:.1%}"
    )


def _print_finetuned(made: Finetuned, as_json: bool) -> None:
    from pipeline.cli.repair_tables import print_finetune_report

    reference = made.calibration.reference
    if as_json:
        print_json(
            {
                "package": str(made.package.path),
                "model": made.package.model_id,
                "reference": reference.name,
                "threshold": reference.threshold,
                "plan": made.plan.as_dict(),
                **dataclasses.asdict(made.report),
            }
        )
        return
    print_finetune_report(made.report)
    typer.echo(f"{made.package.path}: {made.package.model_id}, reference {reference.name}")
    path = made.package.path
    note(f"next: oodwatch card {reference.name}; oodwatch models register {path}, or a worker with --model {path}")
