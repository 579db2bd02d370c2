"""The model: package, device, reference."""

import time
from collections.abc import Iterator

import numpy as np

from pipeline.assembly.parts import matching_reference, open_model
from pipeline.doctor.finding import USAGE, Finding
from pipeline.settings import Settings
from pipeline.shift.threshold import NO_ALERTS_BELOW, PROVISIONAL_BELOW
from pipeline.storage.engine import current_revision, make_engine, revision_problem, sqlite_file, translated_errors


def check_package(settings: Settings) -> Iterator[Finding]:
    """The package is complete; its digest is that of weights, code, preprocessing and classes as they are now."""
    if settings.model is None:
        yield _no_model("model")
        return
    from pipeline.models.package import load_package

    package = load_package(settings.model)
    spec = package.spec
    found = f"{package.model_id}, {len(spec.classes)} classes, input {spec.preprocessing.input_size} px"
    yield Finding("model", "ok", f"{found}, sha256 {package.digest}")


def check_device(settings: Settings) -> Iterator[Finding]:
    """The weights load, and one image passes through the model on its device."""
    if settings.model is None:
        yield _no_model("device")
        return
    parts = open_model(settings)
    side = parts.package.spec.preprocessing.input_size
    image = np.zeros((1, side, side, 3), np.uint8)
    parts.classifier.predict(image)  # the first pass pays for kernels and memory
    began = time.perf_counter()
    outputs = parts.classifier.predict(image)
    took_ms = (time.perf_counter() - began) * 1e3
    found = f"{parts.classifier.device}, {parts.classifier.dtype}: one image in {took_ms:.1f} ms"
    if np.isfinite(outputs.logits).all() and np.isfinite(outputs.features).all():
        yield Finding("device", "ok", found)
    else:
        yield Finding("device", "failed", f"{found}, but the answer is not finite", "check weights and dtype", USAGE)


def check_reference(settings: Settings) -> Iterator[Finding]:
    """A reference of this model is stored, made with the decoder and dtype of this worker."""
    if settings.model is None:
        yield _no_model("reference")
        return
    from pipeline.models.package import load_package

    package = load_package(settings.model)
    cure = "mend what the line `database` says, then run `oodwatch calibrate`"
    file = sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        yield Finding("reference", "failed", "there is no database yet", cure, USAGE)
        return
    engine = make_engine(settings.database_url)
    try:
        with translated_errors(engine.url):
            revision = current_revision(engine)
        if revision_problem(engine.url, revision) is not None:
            yield Finding("reference", "failed", "the database cannot be read by this release", cure, USAGE)
            return
        reference = matching_reference(
            engine, name=settings.reference, model_id=package.model_id, dtype=settings.worker.dtype
        )
        yield judge_size(reference.name, reference.n)
    finally:
        engine.dispose()


def judge_size(name: str, n: int) -> Finding:
    """What a reference of n images can promise."""
    if n < NO_ALERTS_BELOW:
        return Finding(
            "reference", "warning", f"{name}: {n} images raise no alerts", f"use {PROVISIONAL_BELOW:,} or more"
        )
    if n < PROVISIONAL_BELOW:
        found = f"{name}: alerts of {n:,} images are provisional"
        return Finding("reference", "warning", found, f"use {PROVISIONAL_BELOW:,} or more")
    return Finding("reference", "ok", f"{name}, {n:,} images, made with this decoder and dtype")


def _no_model(check: str) -> Finding:
    return Finding(check, "skipped", "no model is named", "name one with --model")
