"""Settings and a window of stored scores → a stored reference."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Connection

from pipeline.assembly.accepting import accepted_window, quiet_or_forced
from pipeline.assembly.parts import existing_database
from pipeline.errors import RefusedError
from pipeline.records import Float64s, Ints, Reference
from pipeline.settings import Settings
from pipeline.shift.baseline import DISPERSION_DAYS
from pipeline.shift.renewal import renewed
from pipeline.stages.accepting import Source, dispersion_of
from pipeline.storage.engine import reading
from pipeline.storage.monitoring import one_deployment
from pipeline.storage.references import newest_version, reference_by_key, reference_images, save_reference
from pipeline.storage.scores import stored_scores


@dataclass(frozen=True, slots=True)
class Recalibration:
    """The new reference, and what it was made of."""

    reference: Reference
    replaces: str
    deployment: str
    scores: int
    d: float
    notes: tuple[str, ...]


def run_recalibration(
    settings: Settings, start: datetime, end: datetime, *, target_fpr: float | None = None, force: bool = False
) -> Recalibration:
    """Calibrate on what a deployment's reference scored in a window, and store the model's next reference.

    Raises UsageError for an unknown deployment; RefusedError where nothing is stored of the window, something was
    raised in it and `force` is not given, its dispersion is not known, or its scores are too few.
    """
    with existing_database(settings) as engine:
        with reading(engine).connect() as conn:
            deployment = one_deployment(conn, settings.deployment)
            old = reference_by_key(conn, deployment.reference_id)
            source, notes = accepted_window(conn, deployment, old, start, end)
            notes += quiet_or_forced(conn, source, force=force)
            scores, class_counts = _stored(conn, source)
            d = dispersion_of(conn, source)
            if d is None or not len(scores):
                raise RefusedError(
                    f"no score of reference {old.name} is stored from {source.start:%Y-%m-%dT%H:%MZ} to"
                    f" {source.end:%Y-%m-%dT%H:%MZ}: name a window with traffic that is still kept"
                )
            images = tuple(reference_images(conn, deployment.reference_id))
            version = newest_version(conn, old.model_name) + 1
        target = old.target_fpr if target_fpr is None else target_fpr
        now = settings.clock.now()
        made = renewed(old, scores, class_counts, d, target_fpr=target, version=version, images=images, now=now)
        with engine.begin() as conn:
            save_reference(conn, made)
    if len(source.starts) < DISPERSION_DAYS * 24 * 60:
        notes.append(f"the dispersion of less than {DISPERSION_DAYS} days is a guess: a longer window tells more")
    return Recalibration(made, old.name, deployment.name, len(scores), d, tuple(notes))


def _stored(conn: Connection, source: Source) -> tuple[Float64s, Ints]:
    pieces: list[Float64s] = []
    counts = np.zeros(len(source.reference.classes), np.int64)
    found = stored_scores(conn, source.deployment_id, source.key, source.start, source.end)
    for scores, classes in found:
        pieces.append(np.array(scores, np.float64))
        counts += np.bincount(classes, minlength=len(counts))
    return np.concatenate([np.empty(0), *pieces]), counts
