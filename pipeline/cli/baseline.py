"""The commands baseline show, accept and revoke: what normal traffic is, as a person said."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.output import Database, Deployment, Json, iso, note, print_json

if TYPE_CHECKING:
    from pipeline.assembly.accepting import Shown
    from pipeline.storage.baselines import BaselineLine

From = Annotated[str, typer.Option("--from", metavar="TIME", help="Begin of the window of event time, included.")]
To = Annotated[str, typer.Option("--to", metavar="TIME", help="Its end, not included.")]
Force = Annotated[
    bool, typer.Option("--force", help="Also where something was raised in the window, or nothing would page.")
]


def show(database: Database = None, deployment: Deployment = None, as_json: Json = False) -> None:
    """What counts as normal traffic, and what that means for alerts.

    Example: oodwatch baseline show
    """
    from pipeline.assembly.accepting import show_baselines
    from pipeline.assembly.parts import settings_from

    found = show_baselines(settings_from(database=database, deployment=deployment))
    if as_json:
        _print_json(found)
        return
    for line in found.baselines:
        if line.version != found.counts:
            gone = "replaced" if line.revoked_at is None else f"revoked by {line.revoked_by}"
            typer.echo(f"baseline {_accepted(line)} ({gone})")
    if found.counts is None:
        stored = found.stored
        where = f"from {iso(stored[0])} to {iso(stored[1])}" if stored else "none that is judged yet"
        typer.echo(f"{found.deployment} has no baseline for reference {found.reference}; stored minutes: {where}")
    else:
        _print_words(found)
    _print_standing(found)


def accept(
    start: From,
    end: To,
    name: Annotated[str, typer.Option("--name", metavar="WHO", help="Who says that this traffic is normal.")],
    reason: Annotated[str, typer.Option("--reason", metavar="WHY", help="Why, for those who come later.")],
    database: Database = None,
    deployment: Deployment = None,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would mean.")] = False,
    as_json: Json = False,
) -> None:
    """Accept a window of traffic as normal: its nights, bursts and wandering then raise nothing.

    Choose at least three whole days without an incident, better two weeks;
    minutes without images count as such. It becomes the newest version of the
    baseline of the reference that scores now; a running monitor takes it up
    and begins anew, with no evidence. The baseline never follows traffic by
    itself: accept again when normal has changed. In place of a baseline that
    pages, a shorter window is taken only with --force: nothing pages then.

    Example: oodwatch baseline accept --from 2026-11-17T00:00Z --to
    2026-11-24T00:00Z --name ann --reason "a week without incidents"
    """
    from pipeline.assembly.accepting import accept_baseline
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.sources import parse_time

    made = accept_baseline(
        settings_from(database=database, deployment=deployment),
        parse_time("--from", start),
        parse_time("--to", end),
        name=name,
        reason=reason,
        force=force,
        dry_run=dry_run,
    )
    for text in made.notes:
        note(text)
    if as_json:
        _print_json(made)
        return
    _print_words(made)
    _print_standing(made)


def revoke(
    name: Annotated[str, typer.Option("--name", metavar="WHO", help="Who says that it was a mistake.")],
    database: Database = None,
    deployment: Deployment = None,
) -> None:
    """Take the newest acceptance back: the one before it counts again, or none.

    Example: oodwatch baseline revoke --name ann
    """
    from pipeline.assembly.accepting import revoke as run
    from pipeline.assembly.parts import settings_from

    version, left = run(settings_from(database=database, deployment=deployment), name=name)
    now = "none counts now, and what is raised is provisional" if left is None else f"baseline {left} counts again"
    typer.echo(f"baseline {version} is revoked: {now}; the monitor begins anew with its next look")


def _print_json(found: Shown) -> None:
    for line in found.baselines:
        which = {"deployment": found.deployment, "reference": found.reference}
        print_json({**which, **dataclasses.asdict(line), "counts": line.version == found.counts})


def _print_words(found: Shown) -> None:
    line = next(line for line in found.baselines if line.version == found.counts)
    typer.echo(f"{found.deployment}, reference {found.reference}: baseline {_accepted(line)}")
    for text in words(line.days, line.summary):
        typer.echo(text)


def _print_standing(found: Shown) -> None:
    if found.provisional:
        typer.echo(f"What is raised stays provisional, shown and never paged: {'; '.join(found.provisional)}.")
    else:
        typer.echo("Nothing stays provisional: what is raised counts.")


def _accepted(line: BaselineLine) -> str:
    at = line.accepted_at.replace(microsecond=0)
    window = f"{iso(line.window_start)} to {iso(line.window_end)}"
    return f"{line.version}, {window}, accepted by {line.name} on {iso(at)}: {line.reason}"


def words(days: int, summary: dict[str, Any]) -> Iterator[str]:
    """What a baseline's summary means, in sentences."""
    pooled, rates = summary["pooled"], summary["rates"]
    yield (
        f"{days} whole days: {summary['minutes']:,} minutes, {summary['empty_minutes']:,} of them without an image;"
        f" {summary['images']:,} images, {summary['share']:.2%} flagged."
    )
    yield (
        f"Dispersion D = {pooled['d']:.3g}: so many neighbours in time count as one image, {summary['images']:,} as"
        f" {summary['effective_images']:,.0f}."
    )
    if pooled["hours_known"]:
        yield (
            f"Normal is up to {pooled['lowest']:.2%} flagged ({pooled['lowest_at']}, UTC) to {pooled['highest']:.2%}"
            f" ({pooled['highest_at']}), and always {summary['allowed']:.2%}, which the reference allows."
        )
    else:
        yield f"Too few images for hourly rates: normal is {summary['allowed']:.2%} flagged, as the reference allows."
    if (high := pooled["wander_high"]) is not None:
        yield f"Hourly rates wandered from {pooled['wander_low']:.2%} to {high:.2%} (1 and 99 % of hours)."
    if summary["segments"]:
        name, most = max(summary["segments"].items(), key=lambda one: one[1]["highest"])
        count = len(summary["segments"])
        yield f"Segments: {count}; {name} has most flags, up to {most['highest']:.2%}, D = {most['d']:.3g}."
    if (classes := summary["classes"]) is not None:
        first = ", ".join(f"{one['class']} {one['share']:.1%}" for one in classes["most_frequent"][:5])
        yield f"Classes: {first}; {classes['watched']} are watched, D = {classes['d']:.3g}."
    yield (
        f"Rate: {rates['lowest']:.3g} images a minute at least ({rates['lowest_at']}), {rates['highest']:.3g} at most"
        f" ({rates['highest_at']}); {rates['hours_known']} of 168 hours of the week are known."
    )
    yield _COVERAGE[summary["coverage"]]


_COVERAGE = {
    "traffic": "Coverage: features are held against blocks of this traffic.",
    "reference": "Coverage: features are held against blocks of the reference's images.",
    None: "Coverage is not watched: that takes 999 blocks of 200 images here, or a reference made with --representative"
    " and D of at most 1.5.",
}
