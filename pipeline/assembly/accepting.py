"""Settings and a window → a stored baseline; what is stored → what a person is shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from pipeline.assembly.detecting import stored_null, thresholds_of
from pipeline.assembly.parts import existing_database
from pipeline.errors import RefusedError, UsageError
from pipeline.records import Reference
from pipeline.settings import Settings
from pipeline.shift.baseline import DISPERSION_DAYS, Baseline
from pipeline.shift.baseline_summary import provisional_because, summarise
from pipeline.shift.budget import Thresholds
from pipeline.shift.folding import floor
from pipeline.shift.null import Null
from pipeline.stages.accepting import Source, accept
from pipeline.storage.baselines import (
    BaselineLine,
    last_version,
    list_baselines,
    newest_baseline,
    revoke_baseline,
    save_baseline,
)
from pipeline.storage.engine import reading
from pipeline.storage.minutes import first_minute
from pipeline.storage.monitoring import Watched, one_deployment, read_position
from pipeline.storage.references import reference_by_key
from pipeline.storage.verdicts import Raised, raised_within

_SHOWN_ALARMS = 3


@dataclass(frozen=True, slots=True)
class Shown:
    """What `oodwatch baseline` prints."""

    deployment: str
    reference: str
    counts: int | None  # the version that does
    baselines: Sequence[BaselineLine]  # oldest first
    provisional: Sequence[str]  # why alerts are
    stored: tuple[datetime, datetime] | None  # minutes that could be accepted, half-open
    notes: Sequence[str] = ()


def show_baselines(settings: Settings) -> Shown:
    """All baselines of the reference that scores now. Raises UsageError for an unknown deployment."""
    with existing_database(settings) as engine, reading(engine).connect() as conn:
        deployment = one_deployment(conn, settings.deployment)
        reference = reference_by_key(conn, deployment.reference_id)
        counts = newest_baseline(conn, deployment.id, deployment.reference_id)
        return Shown(
            deployment.name,
            reference.name,
            counts,
            list_baselines(conn, deployment.id, deployment.reference_id),
            provisional_because(stored_null(conn, deployment.id, deployment.reference_id, counts)),
            stored_minutes(conn, deployment, deployment.reference_id),
        )


def accept_baseline(
    settings: Settings,
    start: datetime,
    end: datetime,
    *,
    name: str,
    reason: str,
    force: bool = False,
    dry_run: bool = False,
) -> Shown:
    """Make the window's minutes the baseline of the reference that scores now; `dry_run` stores nothing.

    Raises UsageError for an unknown deployment; RefusedError where nothing is stored of the window, something was
    raised in it or nothing would page any more and `force` is not given, normal traffic would reach the warning
    level, or somebody else was quicker.
    """
    thresholds = thresholds_of(settings)
    if not (name.strip() and reason.strip()):
        raise UsageError("--name and --reason: say who accepts this traffic as normal, and why")
    with existing_database(settings) as engine:
        with reading(engine).connect() as conn:
            deployment = one_deployment(conn, settings.deployment)
            reference = reference_by_key(conn, deployment.reference_id)
            source, notes = accepted_window(conn, deployment, reference, start, end)
            notes += quiet_or_forced(conn, source, force=force)
            line, made, known = made_from(conn, source, thresholds, name=name, reason=reason, now=settings.clock.now())
            notes += paging_or_forced(conn, source, known, force=force)
        if dry_run:
            notes.append("a dry run: nothing was stored")
        else:
            with engine.begin() as conn:
                save_baseline(conn, deployment.id, deployment.reference_id, line, made)
            notes.append("the monitor takes it up with its next look, and begins anew with no evidence")
    because = provisional_because(known)
    return Shown(deployment.name, reference.name, line.version, [line], because, (source.start, source.end), notes)


def made_from(
    conn: Connection,
    source: Source,
    thresholds: Thresholds,
    *,
    name: str,
    reason: str,
    now: datetime,
    step: Callable[[float], None] = lambda share: None,
) -> tuple[BaselineLine, Baseline, Null]:
    """The next baseline, not yet stored, how it is listed, and what it makes of the reference; `step` hears how far.

    Raises RefusedError where there is no image in the window, or normal traffic would reach the warning level.
    """
    made, pooled = accept(conn, source, step=step)
    null = Null.from_reference(source.reference)
    known = null.with_baseline(made)
    known.check(thresholds)
    line = BaselineLine(
        version=last_version(conn, source.deployment_id, source.key) + 1,
        window_start=source.start,
        window_end=source.end,
        name=name,
        reason=reason,
        accepted_at=now,
        days=made.days,
        revoked_at=None,
        revoked_by=None,
        summary=summarise(made, pooled, null, source.reference.classes),
    )
    return line, made, known


def revoke(settings: Settings, *, name: str) -> tuple[int, int | None]:
    """Let the baseline that counts no longer do so; return its version and the one that counts now.

    Raises UsageError for an unknown deployment, RefusedError where there is none, or somebody else was quicker.
    """
    if not name.strip():
        raise UsageError("--name: say who revokes it")
    with existing_database(settings) as engine, engine.begin() as conn:
        deployment = one_deployment(conn, settings.deployment)
        key = deployment.id, deployment.reference_id
        version = newest_baseline(conn, *key)
        if version is None or not revoke_baseline(conn, *key, version, by=name, now=settings.clock.now()):
            raise RefusedError(f"deployment {deployment.name} has no baseline that counts: nothing was revoked")
        left = newest_baseline(conn, *key)
    return version, left


def accepted_window(
    conn: Connection, deployment: Watched, reference: Reference, start: datetime, end: datetime
) -> tuple[Source, list[str]]:
    """What is stored and evaluated of a window, in whole minutes, and a note where that is less.

    Raises UsageError for a window that is empty, RefusedError where nothing of it is stored.
    """
    start, end = (floor(at.astimezone(UTC), 1) for at in (start, end))
    if not start < end:
        raise UsageError(f"--from {_iso(start)} must lie before --to {_iso(end)}")
    stored = stored_minutes(conn, deployment, deployment.reference_id)
    if stored is None:
        raise RefusedError(
            f"no minute of reference {reference.name} has been evaluated yet; run `oodwatch monitor` first"
        )
    first, last = max(start, stored[0]), min(end, stored[1])
    if not first < last:
        raise RefusedError(
            f"from {_iso(start)} to {_iso(end)} nothing is stored of reference {reference.name}; its minutes reach from"
            f" {_iso(stored[0])} to {_iso(stored[1])} ([ticks] minute_days says how long they are kept)"
        )
    notes = [] if (first, last) == (start, end) else [f"only {_iso(first)} to {_iso(last)} is stored: that is taken"]
    return Source(deployment.id, reference, first, last), notes


def quiet_or_forced(conn: Connection, source: Source, *, force: bool) -> list[str]:
    """A note where something was raised in the window; RefusedError where that was not accepted with `force`."""
    raised = raised_within(conn, source.deployment_id, source.key, source.start, source.end)
    if not raised:
        return []
    what = f"alarms in the window, {len(raised)} in all: {_some(raised)}"
    if not force:
        raise RefusedError(
            f"{what}; look at these images: if they are normal traffic, accept with --force, else leave them out with"
            " another --from or --to"
        )
    return [f"{what}; accepted all the same"]


def paging_or_forced(conn: Connection, source: Source, known: Null, *, force: bool) -> list[str]:
    """A note where what is raised counts now, and no longer would; RefusedError where `force` does not accept it."""
    present = newest_baseline(conn, source.deployment_id, source.key)
    if not known.provisional or stored_null(conn, source.deployment_id, source.key, present).provisional:
        return []
    days = 0 if known.baseline is None else known.baseline.days
    what = (
        f"this window has {days} whole days of the {DISPERSION_DAYS} that paging takes: in place of baseline {present},"
        " which pages, all that is raised would be provisional and told to nobody"
    )
    if not force:
        raise RefusedError(f"{what}; choose an earlier --from or a later --to, or accept with --force")
    return [f"{what}; accepted all the same"]


def stored_minutes(conn: Connection, deployment: Watched, reference_id: int) -> tuple[datetime, datetime] | None:
    """From the oldest stored minute of a reference to where evaluation stands; None: there is nothing."""
    position = read_position(conn, deployment.id)
    first = first_minute(conn, deployment.id, reference_id)
    if position is None or position.evaluated_until is None or first is None or first >= position.evaluated_until:
        return None
    return first, position.evaluated_until


def _some(raised: Sequence[Raised]) -> str:
    shown = ", ".join(f"{one.stream} {one.state} at {_iso(one.tick)}" for one in raised[:_SHOWN_ALARMS])
    return shown + ", ..." * (len(raised) > _SHOWN_ALARMS)


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%MZ}"
