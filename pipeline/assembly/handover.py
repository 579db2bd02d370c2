"""The registry as a person uses it: register, list, promote, roll back. Workers see to the rest."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from pipeline.assembly.objections import objections
from pipeline.assembly.parts import existing_database
from pipeline.errors import RefusedError, UsageError
from pipeline.records import Reference
from pipeline.settings import Settings
from pipeline.storage.engine import reading
from pipeline.storage.model_events import (
    BEGAN,
    PROMOTED,
    REGISTERED,
    ROLLED_BACK,
    ModelEvent,
    add_event,
    list_events,
    newest_activation,
    standing,
)
from pipeline.storage.monitoring import Watched, one_deployment, watched_deployments
from pipeline.storage.packages import (
    RegisteredPackage,
    find_package,
    is_intact,
    list_packages,
    mend_archive,
    package_by_hash,
    save_package,
)
from pipeline.storage.references import find_reference, newest_of_model, reference_by_key


@dataclass(frozen=True, slots=True)
class Registered:
    """What `models register` has done."""

    package: RegisteredPackage
    is_new: bool
    reference: str | None  # the newest of its model


@dataclass(frozen=True, slots=True)
class PackageLine:
    """One package in a list."""

    name: str
    package: str
    model: str
    version: str
    parent: str | None
    made_by: str | None  # which repair
    mebibytes: float
    reference: str | None
    serves: str  # deployments
    registered_at: datetime
    registered_by: str


@dataclass(frozen=True, slots=True)
class Change:
    """A deployment has another model."""

    deployment: str
    revision: int
    package: str | None  # none: what --model of its workers names
    model: str
    reference: str
    before: str  # model
    notes: tuple[str, ...] = ()


def register(settings: Settings, folder: Path, *, name: str | None, who: str, why: str) -> Registered:
    """Store a package folder, once it has been loaded and asked.

    Raises PackageError for one that cannot be loaded, RefusedError where it is too large or answers NaN.
    """
    from pipeline.assembly.generations import warm_up
    from pipeline.assembly.parts import open_model
    from pipeline.assembly.unpacking import with_model
    from pipeline.models.archive import packed

    package = (parts := open_model(with_model(settings, folder))).package
    warm_up(parts, 2)
    repair = _repair_of(folder)
    with packed(package) as archive, existing_database(settings) as engine, engine.begin() as conn:
        registered = RegisteredPackage(
            hash=archive.hash,
            name=name or folder.resolve().name,
            model_id=package.model_id,
            version=package.spec.version,
            classes=package.spec.classes,
            parent=None if repair is None else repair.get("parent"),
            repair=repair,
            size=archive.size,
            registered_at=settings.clock.now(),
            registered_by=who,
        )
        is_new = save_package(conn, registered, archive.content)
        if is_new:
            add_event(conn, REGISTERED, package=archive.hash, who=who, why=why, now=registered.registered_at)
        elif not is_intact(conn, archive.hash):
            mend_archive(conn, archive.hash, archive.content)
        stored = package_by_hash(conn, archive.hash)
        return Registered(stored, is_new, newest_of_model(conn, package.model_id))


def packages(settings: Settings) -> list[PackageLine]:
    """All that is registered, oldest first, and where it serves."""
    with existing_database(settings) as engine, reading(engine).connect() as conn:
        serves: dict[str, list[str]] = {}
        for deployment in watched_deployments(conn, settings.deployment):
            active = newest_activation(conn, deployment.id)
            if active is not None and active.package is not None:
                serves.setdefault(active.package, []).append(deployment.name)
        return [
            PackageLine(
                name=package.name,
                package=package.hash[:12],
                model=package.model_id,
                version=package.version,
                parent=package.parent,
                made_by=None if package.repair is None else package.repair.get("kind"),
                mebibytes=round(package.size / 2**20, 2),
                reference=newest_of_model(conn, package.model_id),
                serves=", ".join(serves.get(package.hash, [])),
                registered_at=package.registered_at,
                registered_by=package.registered_by,
            )
            for package in list_packages(conn)
        ]


def history(settings: Settings) -> list[ModelEvent]:
    """Who did what and why, oldest first."""
    with existing_database(settings) as engine, reading(engine).connect() as conn:
        events = list_events(conn, settings.deployment)
    return [replace(event, package=event.package and event.package[:12]) for event in events]


def promote(settings: Settings, name: str, *, reference: str | None, who: str, why: str, force: bool = False) -> Change:
    """Let a registered package score in a deployment, with the named reference or the newest of its model.

    Raises RefusedError for what `objections` finds, unless forced; always where the package is corrupt, has no
    reference, or scores already.
    """
    with _changing(settings, who, why) as (conn, deployment):
        package = find_package(conn, name)
        _require_intact(conn, package)
        made = _reference_of(conn, package, reference)
        before = reference_by_key(conn, deployment.reference_id)
        active = newest_activation(conn, deployment.id)
        if active is not None and (active.package, active.reference_id) == (package.hash, made.id):
            raise RefusedError(f"{package} with {made.name} is the model of {deployment.name} already")
        against = objections(settings, package, made, before)
        if against and not force:
            raise RefusedError(f"{package} is not promoted: {'; '.join(against)}; nothing was changed, --force insists")
        if active is None:
            why_began = "what scored before the first promotion"
            _add(settings, conn, deployment, BEGAN, None, deployment.reference_id, who, why_began)
        revision = _add(settings, conn, deployment, PROMOTED, package.hash, made.id, who, why)
    notes = tuple(f"forced, although {text}" for text in against)
    return Change(deployment.name, revision, package.hash, package.model_id, made.name, before.model_id, notes)


def rollback(settings: Settings, *, who: str, why: str) -> Change:
    """Back to what scored before the promotion that counts, past what is corrupt.

    Raises RefusedError where there is no such thing.
    """
    with _changing(settings, who, why) as (conn, deployment):
        lying = standing(conn, deployment.id)
        corrupt = [one for one in lying[1:] if one.package is not None and not is_intact(conn, one.package)]
        target = next((one for one in lying[1:] if one not in corrupt), None)
        if target is None:
            raise RefusedError(f"{deployment.name} has nothing to go back to: no promotion counts; nothing was changed")
        before = reference_by_key(conn, lying[0].reference_id)
        revision = _add(settings, conn, deployment, ROLLED_BACK, target.package, target.reference_id, who, why)
        reference = reference_by_key(conn, target.reference_id)
        skipped = tuple(f"passed over, corrupt: package {one.package}" for one in corrupt if one.id > target.id)
    model, name = reference.model_id, reference.name
    return Change(deployment.name, revision, target.package, model, name, before.model_id, skipped)


@contextmanager
def _changing(settings: Settings, who: str, why: str) -> Iterator[tuple[Connection, Watched]]:
    if not (who.strip() and why.strip()):
        raise UsageError("--name and --reason: say who changes the model, and why")
    with existing_database(settings) as engine, engine.begin() as conn:
        yield conn, one_deployment(conn, settings.deployment)


def _add(
    settings: Settings,
    conn: Connection,
    deployment: Watched,
    kind: str,
    package: str | None,
    reference_id: int | None,
    who: str,
    why: str,
) -> int:
    return add_event(
        conn,
        kind,
        deployment_id=deployment.id,
        package=package,
        reference_id=reference_id,
        who=who,
        why=why,
        now=settings.clock.now(),
    )


def _require_intact(conn: Connection, package: RegisteredPackage) -> None:
    if not is_intact(conn, package.hash):
        raise RefusedError(
            f"{package} is corrupt in the database: its bytes are not those of its hash; register its folder again,"
            " which mends it"
        )


def _reference_of(conn: Connection, package: RegisteredPackage, name: str | None) -> Reference:
    found = name or newest_of_model(conn, package.model_id)
    if found is None:
        raise RefusedError(
            f"{package} has no reference of its own, and no other fits it: make one with `oodwatch calibrate --model"
            " DIR IMAGES` on this database"
        )
    return find_reference(conn, name=found, model_id=package.model_id)


def _repair_of(folder: Path) -> dict[str, Any] | None:
    from pipeline.models.package import REPAIR_FILE

    file = folder / REPAIR_FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}; repair the model again, or delete the file") from error
    if found is not None and not isinstance(found, dict):
        raise UsageError(f"{file}: is no JSON object; repair the model again, or delete the file")
    return found
