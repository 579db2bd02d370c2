"""Settings and labelled rows → a package with a new head."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.assembly.calibrating import run_calibration
from pipeline.assembly.parts import ModelParts, decode_threads, open_database_of, open_model
from pipeline.assembly.retraining_rows import Found, outlier_rows, rows_of_file, rows_of_images, stored_rows
from pipeline.calibrate import Calibration
from pipeline.errors import RefusedError
from pipeline.ingest.image_files import labelled_images
from pipeline.models.network import find_head
from pipeline.models.package import ModelPackage
from pipeline.models.packaging import make_repaired_package, move_package, open_network, refuse_existing, write_repair
from pipeline.records import Float64s
from pipeline.scoring.energy_bounded import MIN_OUTLIERS, EnergyBounds, own_bounds
from pipeline.settings import Settings, load_settings
from pipeline.shift.threshold import conformal_rank
from pipeline.training.groups import HELD_OUT, Rows, hold_out, make_rows
from pipeline.training.head_report import HeadReport, energies_of, report
from pipeline.training.last_layer_retraining import Head, Outliers, retrain


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """An .npz with x, y, g."""

    path: Path


@dataclass(frozen=True, slots=True)
class ImageRows:
    """Image files, and a CSV that gives them groups."""

    folder: Path
    groups: Path


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Samples of the deployment with start <= event time < end."""

    start: datetime | None
    end: datetime | None
    groups: Path | None


@dataclass(frozen=True, slots=True)
class RetrainRequest:
    """What a person asks of a retraining."""

    rows: FeatureRows | ImageRows | StoredRows
    outliers: Path | None
    calibration: Path | None
    out: Path
    weight: float  # of the energy bounds; 0: none
    m_in: float | None
    m_out: float | None
    strengths: tuple[float, ...]
    resamples: int
    seed: int
    target_fpr: float
    force: bool

    @property
    def fits(self) -> int:
        """How many heads will be fitted."""
        return self.resamples * (1 + (len(self.strengths) if len(self.strengths) > 1 else 0))


@dataclass(frozen=True, slots=True)
class RetrainedModel:
    """What came of it."""

    package: ModelPackage
    report: HeadReport
    fitted: dict[str, int]  # rows by group
    strength: float
    bounds: EnergyBounds | None
    calibration: Calibration | None


def run_retraining(
    settings: Settings,
    request: RetrainRequest,
    *,
    progress: Callable[[int], None],
    say: Callable[[str], None],
) -> RetrainedModel:
    """Fit, compare, and where it is a repair write the package, and its reference where calibration images are given.

    Raises RefusedError where the rows do not carry a new head, or where the result is worse.
    """
    refuse_existing(request.out, request.force)
    parts = open_model(settings)
    network = open_network(parts.package)
    layer = find_head(network, parts.package.spec.head, len(parts.package.spec.classes))
    old = _head_of(layer)
    found = _find(settings, request, parts, layer.in_features)
    rows, outliers = _checked(request, found, parts, layer.in_features, decode_threads(settings), say)

    rng = np.random.default_rng(request.seed)
    kept, held = hold_out(rows.groups, HELD_OUT, rng)
    conformal_rank(len(held) // 2, request.target_fpr)
    fit = rows.take(kept)
    far, far_held = (outliers[part] for part in hold_out(np.zeros(len(outliers), np.int64), HELD_OUT, rng))
    bounds = _bounds(request, old, fit, far)
    made = retrain(
        fit,
        old,
        rng=rng,
        strengths=request.strengths,
        resamples=request.resamples,
        outliers=None if bounds is None else Outliers(far, bounds),
        intercept=layer.bias is not None,
        progress=progress,
    )
    compared = report(old, made.head, rows.take(held), far_held if len(far_held) else None, request.target_fpr, rng)
    if compared.worse and not request.force:
        raise RefusedError(
            f"not a repair: {compared.worse}, on rows that were not fitted on; nothing was written; label more rows of"
            " the weak groups, or insist with --force"
        )
    fitted = {rows.names[group]: int(n) for group, n in zip(*np.unique(fit.groups, return_counts=True), strict=True)}
    repair = {
        "kind": "retrain-head",
        "strength": made.strength,
        "resamples": request.resamples,
        "seed": request.seed,
        "bounds": None if bounds is None else asdict(bounds),
        "fitted": fitted,
        "left_out": dict(found.left_out),
        **asdict(compared),
    }
    package, calibration = _write(settings, request, parts, _with_head(network, parts, made.head), repair)
    return RetrainedModel(package, compared, fitted, made.strength, bounds, calibration)


def _find(settings: Settings, request: RetrainRequest, parts: ModelParts, width: int) -> Found:
    match request.rows:
        case FeatureRows(path):
            return rows_of_file(path, parts, width)
        case ImageRows(folder, groups):
            return rows_of_images(folder, groups, parts, decode_threads(settings))
        case StoredRows(start, end, said):
            engine = open_database_of(settings, create=False)
            deployment = settings.deployment or parts.package.spec.name
            try:
                return stored_rows(engine, deployment, start, end, said, parts, width)
            finally:
                engine.dispose()


def _checked(
    request: RetrainRequest, found: Found, parts: ModelParts, width: int, threads: int, say: Callable[[str], None]
) -> tuple[Rows, Float64s]:
    """Rows in groups, and features of outliers."""
    features, hashes = found.outliers, found.outlier_hashes
    if request.outliers is not None:
        more, more_hashes = outlier_rows(request.outliers, parts, width, threads)
        features, hashes = np.concatenate([features, more]), (*hashes, *more_hashes)
    shared = set(hashes) & set(found.hashes)
    if shared:
        raise RefusedError(
            f"{len(shared):,} of {len(hashes):,} outliers are also among the labelled rows; an image cannot be both,"
            " take them out of one"
        )
    n, wanted = len(features), request.weight > 0 or len(features) > 0
    if wanted and (n < 2 or (n < MIN_OUTLIERS and not request.force)):
        raise RefusedError(
            f"{n} outliers are too few to bound energies by and to judge by; at least {MIN_OUTLIERS} are needed: give"
            " reviewed ones as --outliers, or insist with --force"
        )
    classes = parts.package.spec.classes
    rows, small = make_rows(found.features, found.labels, found.attributes, classes, drop_small=request.force)
    for why, count in (
        found.left_out + Counter({"in groups of too few rows": len(found.labels) - len(rows.labels)})
    ).items():
        say(f"left out: {count:,} {why}")
    if small:
        say(f"groups left out: {', '.join(small)}")
    return rows, features


def _bounds(request: RetrainRequest, old: Head, fit: Rows, outliers: Float64s) -> EnergyBounds | None:
    if request.weight == 0:
        return None
    normal, far = energies_of(old, fit.features), energies_of(old, outliers)
    return own_bounds(normal, far, m_in=request.m_in, m_out=request.m_out, weight=request.weight)


def _head_of(layer: nn.Linear) -> Head:
    weight = layer.weight.detach().double().numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy()
    return Head(weight, bias)


def _with_head(network: nn.Module, parts: ModelParts, head: Head) -> dict[str, Tensor]:
    name = parts.package.spec.head
    state = dict(network.state_dict())
    for what, value in (("weight", head.weight), ("bias", head.bias)):
        key = f"{name}.{what}"
        if key in state:
            state[key] = torch.from_numpy(value).to(state[key].dtype)
    return state


def _write(
    settings: Settings, request: RetrainRequest, parts: ModelParts, state: dict[str, Tensor], repair: dict[str, Any]
) -> tuple[ModelPackage, Calibration | None]:
    """The package comes to its place last: where it is, its reference is."""
    candidate = request.out.with_name(f".{request.out.name}.candidate")
    shutil.rmtree(candidate, ignore_errors=True)
    version = f"{parts.package.spec.version}+head"
    try:
        make_repaired_package(candidate, parts.package, state, version=version)
        write_repair(candidate, parts.package, repair)
        calibration = None
        if request.calibration is not None:
            calibration = run_calibration(
                load_settings(**{**dict(settings), "model": candidate}),
                labelled_images(request.calibration),
                target_fpr=request.target_fpr,
                temperature=1.0,
                representative=False,
            )
        return move_package(candidate, request.out), calibration
    finally:
        shutil.rmtree(candidate, ignore_errors=True)
