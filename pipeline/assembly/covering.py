"""A reference and production, each a file of features, images, or what is stored → a coverage report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sqlalchemy import Connection

from pipeline.assembly.coverage_rows import Found, Window, kept_rows, rows_of_file, rows_of_images, rows_of_window
from pipeline.assembly.parts import ModelParts, decode_threads, existing_database, open_model
from pipeline.calibrate import PROJECTED_DIMENSIONS
from pipeline.errors import RefusedError
from pipeline.ingest.image_files import labelled_images
from pipeline.models.device import device_of
from pipeline.records import Float32s, Float64s, Reference
from pipeline.scoring.precision_recall import check_parameters, check_rows
from pipeline.settings import Settings
from pipeline.stages.coverage import compare
from pipeline.stages.coverage_report import CoverageReport, ImageRows, Plan
from pipeline.stages.reference_sums import principal_axes
from pipeline.storage.coverage import SegmentSupport, support_by_segment
from pipeline.storage.engine import reading
from pipeline.storage.monitoring import Watched, one_deployment
from pipeline.storage.references import find_reference, reference_by_key, reference_by_name

ALL_FEATURES = 0
_SHARES_DIFFER = 0.1  # total variation between the samples' and the traffic's shares of the segments


@dataclass(frozen=True, slots=True)
class Stored:
    """A reference by its name; None: the deployment's own, else the model's newest."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Features:
    """A file of features."""

    path: Path


@dataclass(frozen=True, slots=True)
class Images:
    """A folder of images, or a CSV."""

    path: Path


@dataclass(frozen=True, slots=True)
class CoverageRequest:
    """What a person asks."""

    reference: Stored | Features | Images
    production: Window | Features | Images
    plan: Plan
    dimensions: int | None  # principal axes of the reference; ALL_FEATURES; None: 16 of images, all of a file


@dataclass(frozen=True, slots=True, eq=False)
class _Basis:
    """What production is projected by, and held against."""

    images: ImageRows
    project: Callable[[Float64s | Float32s], Float64s | Float32s]
    width: int  # of the features before
    model: str | None
    stored: Reference | None = None
    failed: tuple[tuple[Path, str], ...] = ()


def run_coverage(
    settings: Settings,
    request: CoverageRequest,
    *,
    rng: np.random.Generator,
    on_start: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[CoverageReport, list[tuple[Path, str]]]:
    """Compare; return the report, and the files that could not be scored.

    Raises UsageError and RefusedError for what cannot be compared: other models or widths, too few images.
    """
    plan = replace(request.plan, device=str(device_of(settings.worker.device)))
    check_parameters(plan.a, plan.k)
    sides = (request.reference, request.production)
    on_start(sum(len(labelled_images(side.path)) for side in sides if isinstance(side, Images)))
    with ExitStack() as stack:
        opened = _Opened(settings, stack, progress)
        basis = _basis(opened, request)
        found, traffic = _production(opened, request, basis)
    _check_same(basis, found)
    check_rows(torch.from_numpy(found.images.rows), found.images.name, plan.k)
    production = replace(found.images, rows=basis.project(found.images.rows))
    report = compare(basis.images, production, plan, rng=rng, traffic=traffic)
    notes = [note for note in (found.note, _unequal_shares(production, traffic)) if note is not None]
    return replace(report, warnings=(*notes, *report.warnings)), [*basis.failed, *found.failed]


class _Opened:
    """The model and the database, each opened once and only where it is needed."""

    def __init__(self, settings: Settings, stack: ExitStack, progress: Callable[[int], None]) -> None:
        self.settings = settings
        self._stack = stack
        self._progress = progress
        self._parts: ModelParts | None = None
        self._conn: Connection | None = None

    def model(self) -> ModelParts:
        if self._parts is None:
            self._parts = open_model(self.settings)
        return self._parts

    def database(self) -> Connection:
        if self._conn is None:
            engine = self._stack.enter_context(existing_database(self.settings))
            self._conn = self._stack.enter_context(reading(engine).connect())
        return self._conn

    def deployment(self) -> Watched:
        return one_deployment(self.database(), self.settings.deployment)

    def raw(self, side: Features | Images) -> Found:
        if isinstance(side, Features):
            return rows_of_file(side.path)
        return rows_of_images(side.path, self.model(), decode_threads(self.settings), self._progress)


def _basis(opened: _Opened, request: CoverageRequest) -> _Basis:
    if isinstance(request.reference, Stored):
        stored = _stored(opened, request.reference.name, request.production)

        def as_stored(rows: Float64s | Float32s) -> Float64s | Float32s:
            return (rows - stored.feature_mean) @ stored.projection

        images = kept_rows(opened.database(), stored)
        return _Basis(images, as_stored, len(stored.feature_mean), stored.model_id, stored)
    found = opened.raw(request.reference)
    check_rows(torch.from_numpy(found.images.rows), found.images.name, request.plan.k)
    usual = PROJECTED_DIMENSIONS if isinstance(request.reference, Images) else ALL_FEATURES
    project = _projection(found.images.rows, usual if request.dimensions is None else request.dimensions)
    images = replace(found.images, rows=project(found.images.rows))
    return _Basis(images, project, found.images.rows.shape[1], found.model, failed=found.failed)


def _stored(opened: _Opened, name: str | None, production: Window | Features | Images) -> Reference:
    """The reference; of a window the deployment's own by default, of images the model's."""
    conn = opened.database()
    if isinstance(production, Images):
        return find_reference(conn, name=name, model_id=opened.model().package.model_id)
    if name is not None:
        return reference_by_name(conn, name)
    return reference_by_key(conn, opened.deployment().reference_id)


def _production(opened: _Opened, request: CoverageRequest, basis: _Basis) -> tuple[Found, list[SegmentSupport]]:
    side = request.production
    if not isinstance(side, Window):
        return opened.raw(side), []
    conn, deployment = opened.database(), opened.deployment()
    found = rows_of_window(conn, deployment, side, basis.model)
    if basis.stored is None or basis.stored.id is None:
        return found, []
    traffic = support_by_segment(conn, deployment.id, basis.stored.id, side.start, side.end)
    return found, [line for line in traffic if side.segment in (None, line.segment)]


def _projection(rows: Float64s | Float32s, dimensions: int) -> Callable[[Float64s | Float32s], Float64s | Float32s]:
    if dimensions == ALL_FEATURES:
        return lambda others: others
    mean = rows.mean(axis=0, dtype=np.float64)
    axes = principal_axes(np.atleast_2d(np.cov((rows - mean).T)), dimensions)
    return lambda others: (others - mean) @ axes


def _check_same(basis: _Basis, found: Found) -> None:
    reference, production = basis.images.name, found.images.name
    if None not in (basis.model, found.model) and basis.model != found.model:
        raise RefusedError(
            f"{reference} holds features of model {basis.model}, {production} those of {found.model}: features of two"
            " models cannot be compared; take both from one"
        )
    if found.images.rows.shape[1] != basis.width:
        raise RefusedError(
            f"{reference} has {basis.width} features an image, {production} {found.images.rows.shape[1]}: these come"
            " from two models, or from two layers; take both from one"
        )


def _unequal_shares(production: ImageRows, traffic: Sequence[SegmentSupport]) -> str | None:
    """Where few samples of a busy segment stand beside as many of a quiet one."""
    images = sum(line.images for line in traffic)
    if not images:
        return None
    samples = len(production.groups)
    shares = {line.segment: line.images / images for line in traffic}
    kept = {name: sum(one == name for one in production.groups) / samples for name in shares}
    apart = sum(abs(shares[name] - kept[name]) for name in shares) / 2
    if apart < _SHARES_DIFFER:
        return None
    name = max(shares, key=lambda one: abs(shares[one] - kept[one]))
    return (
        f"the {samples:,} samples share out otherwise than the {images:,} images: {name} has {shares[name]:.0%} of the"
        f" images and {kept[name]:.0%} of the samples; look at each with --segment"
    )
