"""Which model a worker begins with, and how a promoted one becomes a generation of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from pipeline.assembly.parts import (
    ModelParts,
    check_comparable,
    make_isolated,
    matching_reference,
    open_model,
    required_model,
    score_of,
    support_of,
)
from pipeline.assembly.unpacking import unpacked, with_model
from pipeline.errors import RefusedError
from pipeline.models.package import load_package
from pipeline.records import Record, Reference
from pipeline.settings import Settings
from pipeline.stages.handover import reason
from pipeline.stages.inference import Inference, SupportOf
from pipeline.stages.isolation import Isolated, Isolation
from pipeline.stages.serving import Generation
from pipeline.storage.deployments import deployment_key
from pipeline.storage.engine import is_transient, reading, translated_errors
from pipeline.storage.model_events import Activation, standing
from pipeline.storage.references import reference_by_key, reference_features
from pipeline.telemetry.health import Pulse


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a worker begins with."""

    generation: Generation
    seen: int  # the registry's newest revision, taken or refused
    refused: Sequence[tuple[Activation, str]]  # what it names and cannot be taken, and why
    taken: Activation | None  # what of it is; None: there is no registry, or nothing of it can be

    @property
    def refused_because(self) -> str | None:
        """Why what the registry names now does not score here; None: it does, or it names nothing."""
        return self.refused[0][1] if self.refused else None

    def notes(self, settings: Settings) -> Iterator[str]:
        """What a person may not have meant."""
        for activation, why in self.refused:
            yield f"refused: {activation.package or '--model'}, {activation.kind} by {activation.who}: {why}"
        taken = self.taken
        if taken is not None and taken.package is not None:
            given = [f"--model {settings.model}"] * bool(settings.model)
            given += [f"--reference {settings.reference}"] * bool(settings.reference)
            instead = f" instead of {' and '.join(given)}" if given else ""
            yield (
                f"the registry's model is taken{instead}: {taken.kind} by {taken.who} on {taken.at:%Y-%m-%d %H:%M} UTC;"
                " `oodwatch models rollback` takes that back"
            )


class Generations:
    """Makes generations: of packages in the registry, or of the worker's own --model."""

    def __init__(self, settings: Settings, engine: Engine, deployment: str, pulse: Pulse) -> None:
        self._settings = settings
        self._engine = engine
        self._deployment = deployment
        self._pulse = pulse
        self._input_size: int | None = None  # of the first one: the memory of what is in flight is reckoned by it

    def first(self) -> Beginning:
        """What the registry names; where that cannot be taken, what it named before; else --model."""
        beginning = self._first()
        self._input_size = beginning.generation.preparation.preprocessing.input_size
        return beginning

    def _first(self) -> Beginning:
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            key = deployment_key(conn, self._deployment)
            candidates = [] if key is None else standing(conn, key)
        seen = candidates[0].id if candidates else 0
        refused: list[tuple[Activation, str]] = []
        for candidate in candidates:
            try:
                # Of what a worker is started with, the newest reference counts, as without a registry.
                return Beginning(self.load(candidate if candidate.package else None), seen, refused, candidate)
            except Exception as error:  # its own code may raise anything
                if is_transient(error.__cause__ or error):
                    raise
                refused.append((candidate, reason(error)))
        if refused and self._settings.model is None:
            raise RefusedError(f"the registry's model of {self._deployment} is refused: {refused[0][1]}")
        return Beginning(self.load(None), seen, refused, None)

    def load(self, activation: Activation | None) -> Generation:
        """Verify, load and warm up; None: --model. Raises whatever speaks against it."""
        if activation is None or activation.package is None:
            parts, reference, settings = *self._own(activation), self._settings
        else:
            settings = with_model(self._settings, self._unpacked(activation.package))
            parts, reference = open_model(settings), self._reference(activation.reference_id)
            check_comparable(reference, model_id=parts.package.model_id, dtype=parts.classifier.dtype)
        self._check_input_size(parts)
        warm_up(parts, self._settings.worker.max_batch)
        package = None if activation is None else activation.package
        support = self._support(reference, parts)
        return make_generation(settings, parts, package, reference, support, self._pulse)

    def _own(self, activation: Activation | None) -> tuple[ModelParts, Reference]:
        """--model; after a roll-back to it with the reference that it had."""
        parts = open_model(self._settings)
        model_id, dtype = parts.package.model_id, parts.classifier.dtype
        if activation is None:
            name = self._settings.reference
            return parts, matching_reference(self._engine, name=name, model_id=model_id, dtype=dtype)
        reference = self._reference(activation.reference_id)
        if reference.model_id != model_id:
            raise RefusedError(
                f"{reference.model_id} scored before, --model {self._settings.model} holds {model_id} here: start this"
                " worker again with the former package, or register that and promote it"
            )
        check_comparable(reference, model_id=model_id, dtype=dtype)
        return parts, reference

    def _reference(self, key: int) -> Reference:
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            return reference_by_key(conn, key)

    def _support(self, reference: Reference, parts: ModelParts) -> SupportOf | None:
        """How well the reference's stored images support others."""
        assert reference.id is not None
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            images = reference_features(conn, reference.id)
        return support_of(images, parts.classifier)

    def _unpacked(self, package: str) -> Path:
        return unpacked(self._engine, package, self._settings.state_dir / "models")

    def _check_input_size(self, parts: ModelParts) -> None:
        size = parts.package.spec.preprocessing.input_size
        if self._input_size not in (None, size):
            raise RefusedError(
                f"{parts.package.model_id} takes images of {size} px, the model at work {self._input_size} px, and this"
                " worker's memory is reckoned by that; start the worker again, and it takes the promoted one"
            )


def deployment_name(settings: Settings) -> str:
    """As given; else the name of --model."""
    return settings.deployment or load_package(required_model(settings)).spec.name


def make_generation(
    settings: Settings,
    parts: ModelParts,
    package: str | None,
    reference: Reference,
    support: SupportOf | None,
    pulse: Pulse,
) -> Generation:
    """A loaded model as one generation of a worker; `settings` name its package, for its child process."""
    from pipeline.models.device import free_memory, is_fatal, is_out_of_memory

    isolation = Isolation(partial(make_isolated, settings), clock=settings.clock.now)

    def score_isolated(records: Sequence[Record]) -> Iterator[Isolated]:
        for answer in isolation.score(records):
            pulse.beat("model")  # a child process may take a minute for the next one
            yield answer

    inference = Inference(
        parts.classifier,
        score_of(reference, parts.classifier),
        reference,
        max_batch=settings.worker.max_batch,
        is_out_of_memory=is_out_of_memory,
        is_fatal=is_fatal,
        free_memory=free_memory,
        score_isolated=score_isolated,
        clock=settings.clock.now,
        support=support,
    )
    spec, classifier = parts.package.spec, parts.classifier
    description = {
        "model": spec.name,
        "version": spec.version,
        "digest": parts.package.digest,
        "reference": reference.name,
        "device": str(classifier.device),
        "dtype": classifier.dtype,
    }
    return Generation(
        parts.package.model_id, package, reference, parts.preparation, inference, isolation.close, description
    )


def warm_up(parts: ModelParts, batch: int) -> None:
    """Allocations, kernels and compilation happen before the first record. Raises RefusedError for NaN."""
    outputs = parts.classifier.warm_up(batch)
    if not (np.isfinite(outputs.logits).all() and np.isfinite(outputs.features).all()):
        raise RefusedError(f"{parts.package.model_id} answers NaN or infinity to a black image; check its weights")
