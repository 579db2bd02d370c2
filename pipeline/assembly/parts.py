"""Composition: settings → the parts of a process. Torch is imported only when a model is needed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from pipeline.errors import UsageError
from pipeline.records import Float64s, Outputs, Reference, Scores
from pipeline.settings import HttpSettings, Settings, load_settings
from pipeline.storage.engine import open_database, reading, translated_errors
from pipeline.storage.references import find_reference

if TYPE_CHECKING:
    from pipeline.models.classifier import Classifier
    from pipeline.models.package import ModelPackage
    from pipeline.stages.inference import SupportOf
    from pipeline.stages.preparation import Preparation


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A loaded model with the preparation that belongs to it."""

    package: ModelPackage
    classifier: Classifier
    preparation: Preparation


def settings_from(
    *,
    database: str | None = None,
    source: str | None = None,
    model: Path | None = None,
    deployment: str | None = None,
    reference: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    max_batch: int | None = None,
    http: str | None = None,
    log_format: str | None = None,
) -> Settings:
    """Settings with the flags of a command; None = not given."""
    settings = load_settings(
        database=database,
        source=None if source is None else {"url": source},
        model=model,
        deployment=deployment,
        reference=reference,
        http=None if http is None else HttpSettings(listen=http),
    )
    if log_format is not None:
        settings = load_settings(**{**dict(settings), "log": {**settings.log.model_dump(), "format": log_format}})
    chosen = {
        name: value
        for name, value in (("device", device), ("dtype", dtype), ("max_batch", max_batch))
        if value is not None
    }
    if not chosen:
        return settings
    return load_settings(**{**dict(settings), "worker": {**settings.worker.model_dump(), **chosen}})


def required_model(settings: Settings) -> Path:
    """The model package that flag, environment or file name."""
    if settings.model is None:
        raise UsageError("no model is named; add --model DIR (make one with `oodwatch package`)")
    return settings.model


def required_source(settings: Settings) -> str:
    """The source that flag, environment or file name."""
    if settings.source.url is None:
        raise UsageError("no source is named; add --source spool:DIR/topic")
    return settings.source.url


def open_model(settings: Settings) -> ModelParts:
    """Load the package and put the model on its device."""
    from pipeline.models.classifier import Classifier
    from pipeline.models.package import load_package
    from pipeline.models.process import calm_blas

    calm_blas()
    package = load_package(required_model(settings))
    worker = settings.worker
    classifier = Classifier(package, device=worker.device, dtype=worker.dtype, compile=worker.compile)
    return ModelParts(package, classifier, make_preparation(settings, package))


def make_preparation(settings: Settings, package: ModelPackage) -> Preparation:
    """How records of this package are read, decoded and cut."""
    from pipeline.ingest.decode import DecodeLimits
    from pipeline.ingest.message import MessageLimits
    from pipeline.stages.preparation import Preparation

    limits = settings.limits
    return Preparation(
        preprocessing=package.spec.preprocessing,
        message_limits=MessageLimits(
            max_bytes=limits.max_bytes,
            max_future=timedelta(minutes=limits.max_future_minutes),
            horizon=settings.retention.keep,
        ),
        decode_limits=DecodeLimits(max_pixels=limits.max_pixels),
        clock=settings.clock.now,
    )


def make_isolated(settings: Settings) -> tuple[Preparation, Classifier]:
    """The same model, built in a child process."""
    parts = open_model(settings)
    return parts.preparation, parts.classifier


def score_outputs(outputs: Outputs, *, temperature: float) -> Scores:
    """Energy, msp, class and finite check of a batch."""
    from pipeline.scoring.energy import score_logits

    return score_logits(outputs, temperature)


def energy_score(temperature: float) -> partial[Scores]:
    """The score of a reference that uses plain energy."""
    return partial(score_outputs, temperature=temperature)


def score_of(reference: Reference, classifier: Classifier) -> Callable[[Outputs], Scores]:
    """The score that a reference was made with."""
    if reference.residual is None:
        return energy_score(reference.temperature)
    from pipeline.scoring.residual import EnergyResidualScore

    return EnergyResidualScore(reference.residual, reference.temperature, classifier.device)


def support_of(kept: Float64s, classifier: Classifier) -> SupportOf | None:
    """How well a reference's images, as projected features (n, d), support others; None where they are too few."""
    from pipeline.scoring.precision_recall import image_support

    return image_support(kept, classifier.device)


def residual_origin(classifier: Classifier) -> Float64s | None:
    """o of the residual, from the head; None for a program, whose outputs must say where it lies."""
    from pipeline.scoring.residual import origin_of_head

    head = classifier.head()
    return None if head is None else origin_of_head(*head)


def matching_reference(engine: Engine, *, name: str | None, model_id: str, dtype: str) -> Reference:
    """The named reference, by default the model's newest.

    Raises UsageError where there is none, or where energies would not be comparable with it.
    """
    with translated_errors(engine.url), reading(engine).connect() as conn:
        reference = find_reference(conn, name=name, model_id=model_id)
    check_comparable(reference, model_id=model_id, dtype=dtype)
    return reference


def check_comparable(reference: Reference, *, model_id: str, dtype: str) -> None:
    """Raises UsageError where this process's energies would not be comparable with a reference's."""
    from pipeline.ingest.decode import DECODER

    if reference.model_id != model_id:
        raise UsageError(f"reference {reference.name} belongs to model {reference.model_id}, not to {model_id}")
    for what, has, needs in (("decoder", DECODER, reference.decoder), ("dtype", dtype, reference.dtype)):
        if has != needs:
            raise UsageError(
                f"reference {reference.name} was made with {what} {needs!r}, this worker has {has!r}: energies"
                " would not be comparable; run `oodwatch calibrate` here, or install what the reference used"
            )


def open_database_of(settings: Settings, *, create: bool = True) -> Engine:
    """The database, migrated where it is a new SQLite file."""
    return open_database(settings.database_url, create=create)


@contextmanager
def existing_database(settings: Settings) -> Iterator[Engine]:
    """The database of a command that ends: closed afterwards, its failures as one line."""
    engine = open_database_of(settings, create=False)
    try:
        with translated_errors(engine.url):
            yield engine
    finally:
        engine.dispose()


def decode_threads(settings: Settings) -> int:
    """One fewer than there are cores, at most 8, unless set."""
    return settings.worker.decode_threads or max(1, min(8, (os.cpu_count() or 2) - 1))


def owner_name() -> str:
    """Who moved a cursor: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"
