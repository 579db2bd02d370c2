"""Settings and image sets → a fine-tuned package with its own reference."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.assembly.calibrating import run_calibration
from pipeline.assembly.finetuning_sets import Named, Sets, open_sets
from pipeline.assembly.parts import ModelParts, decode_threads, energy_score, open_database_of, open_model
from pipeline.calibrate import Calibration
from pipeline.errors import RefusedError, UsageError
from pipeline.evaluate import Plan, evaluate
from pipeline.models.package import ModelPackage
from pipeline.models.packaging import make_repaired_package, move_package, open_network, refuse_existing, write_repair
from pipeline.models.preprocessing import Normalise
from pipeline.records import ENERGY, Float64s
from pipeline.scoring.energy_bounded import own_bounds
from pipeline.settings import Settings, load_settings
from pipeline.shift.threshold import conformal_rank
from pipeline.stages.files import score_files
from pipeline.stages.sets import ImageSet
from pipeline.training.batches import Augmentation
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.energy_finetuning import Batch, FineTuning, StepMetrics, TrainingPlan
from pipeline.training.finetune_report import FinetuneReport, Side
from pipeline.training.image_bank import Survey, training_batches

_SCORED_FOR_MARGINS = 2_000  # images of a kind: their mean energy is known to some hundredths of a nat


@dataclass(frozen=True, slots=True)
class FinetuneRequest:
    """What a person asks of a fine-tuning."""

    sets: Named
    out: Path
    m_in: float | None  # None: of the model's own energies
    m_out: float | None
    weight: float
    steps: int
    batch: int
    rate: float
    augmentation: Augmentation
    seed: int
    target_fpr: float
    checkpoint_every: int  # steps
    resume: bool
    force: bool

    @property
    def checkpoint(self) -> Path:
        """Beside the package that is to be made."""
        return self.out.with_name(f"{self.out.name}.checkpoint")


@dataclass(frozen=True, slots=True)
class Finetuned:
    """What came of it."""

    package: ModelPackage
    report: FinetuneReport
    plan: TrainingPlan
    calibration: Calibration


def run_finetuning(
    settings: Settings,
    request: FinetuneRequest,
    *,
    stop: Callable[[], bool],
    on_step: Callable[[StepMetrics], None],
    say: Callable[[str], None],
) -> Finetuned | None:
    """Train, compare, and where it is a repair write package and reference; None where `stop` ended it.

    What was trained until then lies in the request's checkpoint. Raises RefusedError where the result is worse.
    """
    _check_place(request)
    open_database_of(settings).dispose()  # whether there is one is said before the work, not after
    parts = open_model(settings)
    network = open_network(parts.package)
    threads = decode_threads(settings)
    sets = open_sets(
        request.sets,
        parts.package.spec.classes,
        parts.preparation,
        seed=request.seed,
        threads=threads,
        force=request.force,
    )
    conformal_rank(len(sets.calibration.paths), request.target_fpr)
    plan = _plan(request, parts, sets, threads)
    made_for = _made_for(parts, plan, sets)
    training = FineTuning(
        network,
        Normalise(parts.package.spec.preprocessing),
        plan,
        device=parts.classifier.device,
        autocast=_autocast(parts.classifier.device),
    )
    if request.resume:
        training.go_on_from(load_checkpoint(request.checkpoint, made_for))
    bounds = plan.bounds
    for note in sets.notes:
        say(note)
    say(f"margins: m_in {bounds.m_in:.2f}, m_out {bounds.m_out:.2f} nats, weight {bounds.weight:g}")
    batches = training_batches(
        sets.normal, sets.labels, sets.outliers, plan, parts.preparation, start=training.done, threads=threads
    )
    with closing(batches):
        if not _train(training, batches, request, made_for, stop, on_step):
            say(f"stopped after step {training.done} of {plan.steps}; the same command with --resume goes on")
            return None
    return _finish(settings, request, plan, parts, sets, training.weights(), say)


def _check_place(request: FinetuneRequest) -> None:
    refuse_existing(request.out, request.force)
    if request.checkpoint.exists() and not request.resume:
        raise UsageError(
            f"{request.checkpoint} is left of a training that did not end; go on from it with --resume, or delete it"
        )


def _plan(request: FinetuneRequest, parts: ModelParts, sets: Sets, threads: int) -> TrainingPlan:
    given = request.m_in is not None and request.m_out is not None
    nothing = np.zeros(1)
    return TrainingPlan(
        bounds=own_bounds(
            nothing if given else _energies(parts, sets.normal, request.seed, threads),
            nothing if given else _energies(parts, sets.outliers, request.seed, threads),
            m_in=request.m_in,
            m_out=request.m_out,
            weight=request.weight,
        ),
        steps=request.steps,
        batch=request.batch,
        rate=request.rate,
        augmentation=request.augmentation,
        seed=request.seed,
    )


def _energies(parts: ModelParts, images: Survey, seed: int, threads: int) -> Float64s:
    """Of images chosen at random, as the model is before the training."""
    rows = np.random.default_rng((seed, 1)).permutation(len(images.paths))[:_SCORED_FOR_MARGINS]
    paths = images.take(np.sort(rows)).paths
    scored = score_files(paths, parts.preparation, parts.classifier, energy_score(1.0), threads=threads)
    return np.concatenate([batch.scores.energy for batch in scored])


def _autocast(device: torch.device) -> torch.dtype | None:
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None


def _train(
    training: FineTuning,
    batches: Iterator[Batch],
    request: FinetuneRequest,
    made_for: dict[str, str],
    stop: Callable[[], bool],
    on_step: Callable[[StepMetrics], None],
) -> bool:
    """Take the steps that are left, with a checkpoint now and then and at the end; False where `stop` ended it."""

    def after_step(metrics: StepMetrics) -> None:
        if metrics.step % request.checkpoint_every == 0:
            save_checkpoint(request.checkpoint, training.state(), made_for)
        on_step(metrics)

    ended = training.run(batches, stop=stop, on_step=after_step)
    save_checkpoint(request.checkpoint, training.state(), made_for)
    return ended


def _made_for(parts: ModelParts, plan: TrainingPlan, sets: Sets) -> dict[str, str]:
    """What a checkpoint must fit: each value in few characters."""
    images = hashlib.sha256(b"".join(sets.normal.hashes) + sets.labels.tobytes() + b"".join(sets.outliers.hashes))
    values = {name: json.dumps(value) for name, value in plan.as_dict().items()}
    return {
        "model": parts.package.model_id,
        "device": parts.classifier.device.type,
        "images": images.hexdigest()[:12],
        **values,
    }


def _finish(
    settings: Settings,
    request: FinetuneRequest,
    plan: TrainingPlan,
    parts: ModelParts,
    sets: Sets,
    weights: dict[str, torch.Tensor],
    say: Callable[[str], None],
) -> Finetuned:
    """The package comes to its place last: where it is, its reference is."""
    spec = parts.package.spec
    candidate = request.out.with_name(f".{request.out.name}.candidate")
    shutil.rmtree(candidate, ignore_errors=True)
    try:
        make_repaired_package(candidate, parts.package, weights, version=f"{spec.version}+finetuned")
        changed = load_settings(**{**dict(settings), "model": candidate})
        say("comparing before and after")
        report = FinetuneReport(
            n=len(sets.calibration.paths),
            before=_side(parts, sets, request.target_fpr, settings),
            after=_side(open_model(changed), sets, request.target_fpr, settings),
        )
        if report.worse and not request.force:
            raise RefusedError(
                f"not a repair: {report.worse}; nothing was written; change --weight, the margins or --lr, or take it"
                " as it is with --resume --force"
            )
        write_repair(candidate, parts.package, {"kind": "finetune", "plan": plan.as_dict(), **asdict(report)})
        calibration = run_calibration(
            changed, sets.calibration.files, target_fpr=request.target_fpr, temperature=1.0, representative=False
        )
        package = move_package(candidate, request.out)
    finally:
        shutil.rmtree(candidate, ignore_errors=True)
    request.checkpoint.unlink(missing_ok=True)
    return Finetuned(package, report, plan, calibration)


def _side(parts: ModelParts, sets: Sets, target_fpr: float, settings: Settings) -> Side:
    def image_set(name: str, images: Survey) -> ImageSet:
        return ImageSet(
            name,
            images.files,
            parts.package.spec.classes,
            parts.preparation,
            parts.classifier,
            energy_score(1.0),
            decode_threads(settings),
        )

    made = evaluate(
        image_set("normal", sets.calibration),
        [image_set(name, images) for name, images in sets.others.items()],
        Plan((1.0,), target_fpr, None, 0),
        origin=None,
        rng=np.random.default_rng(0),
    )
    (figures,) = (score for score in made.scores if score.score == ENERGY)
    return Side(
        model=parts.package.model_id,
        accuracy=made.ids.accuracy,
        energy=figures.id_mean,
        threshold=figures.threshold_conformal,
        sets=figures.separations,
    )
