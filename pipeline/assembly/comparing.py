"""A candidate beside what scores now, on the same images."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from pipeline.assembly.compared_images import Images, Rival, pair_of
from pipeline.assembly.objections import objections
from pipeline.assembly.parts import existing_database, open_model, required_model
from pipeline.assembly.unpacking import unpacked, with_model
from pipeline.errors import RefusedError, UsageError
from pipeline.records import Reference
from pipeline.settings import Settings
from pipeline.storage.engine import reading
from pipeline.storage.model_events import newest_activation
from pipeline.storage.monitoring import one_deployment
from pipeline.storage.packages import RegisteredPackage, find_package
from pipeline.storage.references import find_reference, newest_of_model, reference_by_key
from pipeline.training.comparison import Comparison, compare


@dataclass(frozen=True, slots=True)
class _Question:
    """Who is compared with whom, as the database has it."""

    deployment: str
    candidate: RegisteredPackage
    reference: Reference  # the candidate's
    active: str | None  # the package that scores now; none: the workers' own --model
    before: Reference  # of what scores now


def run_comparison(
    settings: Settings,
    name: str,
    images: Images,
    *,
    reference: str | None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Comparison, str]:
    """Score old and new; return what comes of it, and which images that was in words.

    Raises RefusedError where the candidate has no reference, UsageError where there are no images to compare by.
    """
    with existing_database(settings) as engine:
        asked = _question(settings, engine, name, reference)
        candidate = unpacked(engine, asked.candidate.hash, settings.state_dir / "models")
        old = _old(settings, engine, asked)
        new = Rival(open_model(with_model(settings, candidate)), asked.reference)
        pair = pair_of(settings, engine, asked.deployment, images, old, new, progress)
    compared = compare(
        old.judged(pair.old),
        new.judged(pair.new),
        pair.labels,
        target_fpr=asked.before.target_fpr,
        warning=settings.detector.warning,
        against=objections(settings, asked.candidate, asked.reference, asked.before),
    )
    return compared, pair.data


def _question(settings: Settings, engine: Engine, name: str, reference: str | None) -> _Question:
    with reading(engine).connect() as conn:
        deployment = one_deployment(conn, settings.deployment)
        candidate = find_package(conn, name)
        named = reference or newest_of_model(conn, candidate.model_id)
        if named is None:
            raise RefusedError(
                f"{candidate} has no reference: without a threshold of its own it cannot score; make one with"
                " `oodwatch calibrate --model DIR IMAGES` on this database"
            )
        active = newest_activation(conn, deployment.id)
        return _Question(
            deployment.name,
            candidate,
            find_reference(conn, name=named, model_id=candidate.model_id),
            None if active is None else active.package,
            reference_by_key(conn, deployment.reference_id),
        )


def _old(settings: Settings, engine: Engine, asked: _Question) -> Rival:
    """What scores now: a registered package, or the folder that its workers were started with."""
    active = asked.active
    folder = required_model(settings) if active is None else unpacked(engine, active, settings.state_dir / "models")
    parts = open_model(with_model(settings, folder))
    if parts.package.model_id != asked.before.model_id:
        raise UsageError(
            f"{folder} holds {parts.package.model_id}, but {asked.deployment} scores with {asked.before.model_id}: name"
            " the package that its workers were started with as --model"
        )
    return Rival(parts, asked.before)
