"""Settings and names of sets → an evaluation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from pipeline.assembly.parts import (
    ModelParts,
    decode_threads,
    energy_score,
    open_database_of,
    open_model,
    residual_origin,
)
from pipeline.errors import UsageError
from pipeline.evaluate import Evaluation, Plan, evaluate
from pipeline.ingest.image_files import labelled_images
from pipeline.ingest.outputs_file import OutputsFile
from pipeline.records import Float64s
from pipeline.scoring.pytorch_ood import Head
from pipeline.settings import Settings
from pipeline.shift.threshold import conformal_rank
from pipeline.stages.sets import FileSet, ImageSet, OutputSet, SampleSet
from pipeline.storage.engine import reading, translated_errors
from pipeline.storage.samples import StoredOutputs, count_random_outputs, random_outputs

SAMPLES = "samples:"


def run_evaluation(
    settings: Settings,
    id_text: str,
    ood_texts: Sequence[tuple[str, str]],
    plan: Plan,
    *,
    on_start: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Evaluation, list[tuple[Path, str]], tuple[str, ...]]:
    """Evaluate; return the figures, the files that could not be scored, and the class names, where known.

    A set is a folder of images or a CSV with `file` and `label` (both need a model), an .npz of outputs, or
    `samples:DEPLOYMENT[/SEGMENT]`.
    """
    with ExitStack() as stack:
        opened = _Opener(settings, stack)
        id_set = opened.open(*_named(id_text))
        conformal_rank(id_set.size, plan.target_fpr)
        ood_sets = [opened.open(name, text) for name, text in ood_texts]
        on_start(id_set.size + sum(ood.size for ood in ood_sets))
        result = evaluate(
            id_set,
            ood_sets,
            plan,
            origin=opened.origin(),
            rng=np.random.default_rng(0),
            head=opened.head(),
            progress=progress,
        )
        failed = [failure for one in (id_set, *ood_sets) if isinstance(one, ImageSet) for failure in one.failed]
        return result, failed, opened.classes


class _Opener:
    """Opens sets; loads the model and the database once, and only where a set needs them."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._parts: ModelParts | None = None
        self._engine: Engine | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The model's class names; none without a model."""
        return () if self._parts is None else self._parts.package.spec.classes

    def origin(self) -> Float64s | None:
        """o of the model's head; None without a model, and for a program."""
        return None if self._parts is None else residual_origin(self._parts.classifier)

    def head(self) -> Head | None:
        """W and b of the model's last layer; None without a model, and for a program."""
        return None if self._parts is None else self._parts.classifier.head()

    def open(self, name: str, text: str) -> OutputSet:
        """The set that a text means."""
        if text.startswith(SAMPLES):
            return self._samples(name, text)
        if text.endswith(".npz"):
            return FileSet(name, OutputsFile(Path(text)))
        files = labelled_images(Path(text))
        parts = self._model(text)
        return ImageSet(
            name,
            files,
            parts.package.spec.classes,
            parts.preparation,
            parts.classifier,
            energy_score(1.0),
            decode_threads(self._settings),
        )

    def _model(self, text: str) -> ModelParts:
        if self._parts is None:
            if self._settings.model is None:
                raise UsageError(f"{text} holds images, which need a model: add --model DIR, or give .npz files")
            self._parts = open_model(self._settings)
        return self._parts

    def _samples(self, name: str, text: str) -> OutputSet:
        deployment, _, segment = text.removeprefix(SAMPLES).partition("/")
        if self._engine is None:
            self._engine = open_database_of(self._settings, create=False)
            self._stack.callback(self._engine.dispose)
        engine = self._engine
        with translated_errors(engine.url), reading(engine).connect() as conn:
            size = count_random_outputs(conn, deployment, segment or None)
        if not size:
            raise UsageError(
                f"{text}: no random sample with features is stored; name samples:DEPLOYMENT[/SEGMENT] of a worker"
                " that runs with samples.pictures = true"
            )
        return SampleSet(name, size, partial(_read_samples, engine, deployment, segment or None), self.classes)


def _read_samples(engine: Engine, deployment: str, segment: str | None) -> Iterator[StoredOutputs]:
    with translated_errors(engine.url), reading(engine).connect() as conn:
        yield from random_outputs(conn, deployment, segment)


def _named(text: str) -> tuple[str, str]:
    """NAME=SET, or a SET that gives its own name."""
    name, separator, where = text.partition("=")
    if separator and name and where and "/" not in name:
        return name, where
    return text.removeprefix(SAMPLES) if text.startswith(SAMPLES) else Path(text).stem or text, text
