"""Settings and files → a stored reference."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.assembly.parts import decode_threads, energy_score, open_database_of, open_model, residual_origin
from pipeline.calibrate import Calibration, Request, calibrate, quantile_size
from pipeline.records import ENERGY
from pipeline.settings import Settings
from pipeline.shift.threshold import conformal_rank
from pipeline.storage.engine import reading, translated_errors
from pipeline.storage.references import newest_version, save_reference


def run_calibration(
    settings: Settings,
    files: Sequence[tuple[Path, str | None]],
    *,
    target_fpr: float,
    temperature: float,
    representative: bool,
    score_name: str = ENERGY,
    residual_dimensions: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Calibrate on (file, label) pairs and store the reference as the model's next version."""
    conformal_rank(quantile_size(len(files), score_name), target_fpr)  # too few is said before the work, not after
    engine = open_database_of(settings)
    parts = open_model(settings)
    spec = parts.package.spec
    with translated_errors(engine.url), reading(engine).connect() as conn:
        version = newest_version(conn, spec.name) + 1
    request = Request(
        model_name=spec.name,
        model_id=parts.package.model_id,
        classes=spec.classes,
        dtype=parts.classifier.dtype,
        score_name=score_name,
        residual_dimensions=residual_dimensions,
        temperature=temperature,
        target_fpr=target_fpr,
        representative=representative,
        keep_pictures=settings.samples.pictures,
        version=version,
    )
    made = calibrate(
        files,
        request,
        parts.preparation,
        parts.classifier,
        energy_score(temperature),
        residual_origin(parts.classifier),
        device=str(parts.classifier.device),
        now=settings.clock.now(),
        rng=np.random.default_rng(0),
        threads=decode_threads(settings),
        progress=progress,
    )
    with translated_errors(engine.url), engine.begin() as conn:
        save_reference(conn, made.reference)
    engine.dispose()
    return made
