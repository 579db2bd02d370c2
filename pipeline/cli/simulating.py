"""The command simulate: the power card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.output import Database, Json, note, print_json, print_lines, progress_bar
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.records import Card
    from pipeline.simulation.power import Damage, FalseAlarms


def simulate(
    images_per_minute: Annotated[float, typer.Option(metavar="N", help="Of all segments together.")] = 60,
    segments: Annotated[int, typer.Option(min=1, max=1_000, help="With equal shares of the traffic.")] = 1,
    n_calibration: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Images that set the threshold. Default: 2000.")
    ] = None,
    target_fpr: Annotated[
        float | None, typer.Option(help="Share of normal images that the threshold may flag. Default: 0.05.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="R", help="Take both from a stored reference, and its blind-spot card.")
    ] = None,
    budget_days: Annotated[float, typer.Option(metavar="DAYS", help="Mean time between false alarms, of all.")] = 30,
    warning: Annotated[float, typer.Option(help="Share of flagged images since the onset.")] = 0.10,
    critical: Annotated[float, typer.Option(help="The same, for critical.")] = 0.25,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same card.")] = 0,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """The power card: how soon will a shift of my traffic be found, and how often is the alarm wrong?

    Runs the detector itself over simulated deployments, each of which drew its
    own calibration images: first normal traffic, then unusual images until 10,
    20 or 50 % of all are flagged. Minutes until the first alarm: the median,
    and by when 95 % of the deployments have raised one, and the signal that is
    most often the first. With several segments also where only one changes.
    With --reference, also for each kind of damage of its blind-spot card.

    Images are taken as independent and traffic as even. Where neighbouring
    images resemble each other, D of them count as one (`baseline show`):
    divide --images-per-minute by D.

    JSON lines: one a change, then one with the false alarms.

    Example: oodwatch simulate --images-per-minute 60 --segments 5 --n-calibration 2000
    """
    import numpy as np

    from pipeline.shift.budget import MINUTES_PER_DAY, Budget, Thresholds
    from pipeline.simulation.power import SHARES, PowerCard, Question, traffic_of

    if reference is not None and (n_calibration is not None or target_fpr is not None):
        raise UsageError(
            f"--reference {reference} already says how many images it was calibrated on and at which target;"
            " leave --n-calibration and --target-fpr out"
        )
    if not 0 < images_per_minute <= _MOST_IMAGES:
        raise UsageError(
            f"--images-per-minute {images_per_minute}: must be above 0 and at most {_MOST_IMAGES:,};"
            " one an hour is 0.0167"
        )
    n, alpha = n_calibration or 2_000, 0.05 if target_fpr is None else target_fpr
    kinds: Sequence[Damage] = []
    if reference is not None:
        n, alpha, kinds = _reference(reference, database)
    _check(n, alpha)
    budget, thresholds = Budget(minutes=budget_days * MINUTES_PER_DAY), Thresholds(warning, critical)
    question = Question(traffic_of(images_per_minute, segments), n, alpha, budget, thresholds)
    wanted = [share for share in SHARES if share > alpha]
    total = len(wanted) * (2 if segments > 1 else 1) + len(kinds) + 2
    with progress_bar("simulating", total) as bar:
        card = PowerCard(question, np.random.default_rng(seed))
        bar.advance(1)
        found = []
        for changes in (card.shares(wanted), card.damage(kinds)):
            for one in changes:
                found.append(one)
                bar.advance(1)
        alarms = card.false_alarms()
        bar.advance(1)
    print_lines(found, as_json=as_json, empty="nothing to look for")
    _print_alarms(alarms, as_json=as_json)


_MOST_IMAGES = 10_000_000


def _check(n: int, alpha: float) -> None:
    from pipeline.shift.threshold import NO_ALERTS_BELOW

    if not 0 < alpha < 1:
        raise UsageError(f"--target-fpr {alpha}: must lie between 0 and 1")
    if n < NO_ALERTS_BELOW:
        raise UsageError(f"{n} calibration images raise nothing: at least {NO_ALERTS_BELOW} are needed")


def _print_alarms(alarms: FalseAlarms, *, as_json: bool) -> None:
    import dataclasses

    if as_json:
        print_json({"change": "none", **dataclasses.asdict(alarms)})
        return
    typer.echo(
        f"false alarms: {alarms.raises} in {alarms.months:.1f} simulated months of normal traffic, at most"
        f" {alarms.a_month_upper:.2g} a month with 95 % confidence; promised: {alarms.promised_a_month:.2g} a month"
    )


def _reference(name: str, database: str | None) -> tuple[int, float, Sequence[Damage]]:
    from pipeline.assembly.parts import open_database_of, settings_from
    from pipeline.storage.engine import reading, translated_errors
    from pipeline.storage.references import stored_card

    engine = open_database_of(settings_from(database=database), create=False)
    with translated_errors(engine.url), reading(engine).connect() as conn:
        stored = stored_card(conn, name)
    if stored.card is None:
        note(f"{name} has no blind-spot card: kinds of damage are left out")
        return stored.n, stored.target_fpr, []
    return stored.n, stored.target_fpr, _damage(name, stored.score, stored.card)


def _damage(name: str, score: str, card: Card) -> Sequence[Damage]:
    import numpy as np

    from pipeline.simulation.power import Damage

    undamaged = card.lines[0].shares
    if undamaged is None:
        note(f"the card of {name} was made by an older release, without histograms: kinds of damage are left out")
        return []
    return [
        Damage(line.kind, np.array(line.shares[score]), np.array(undamaged[score]), line.flagged[score])
        for line in card.lines[1:]
        if line.shares is not None
    ]
