"""Commands of whoever is on call: alerts, ack, silence, expect, note."""

from __future__ import annotations

import dataclasses
import getpass
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.output import Database, Deployment, Json, harmless, iso, note, print_json
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.alerts.acts import Act
    from pipeline.alerts.incident import Alert, Incident
    from pipeline.assembly.handling import Listed
    from pipeline.storage.incidents import EventLine

Number = Annotated[int, typer.Argument(metavar="ID", help="The incident's number, as `oodwatch alerts` shows it.")]
Name = Annotated[str | None, typer.Option("--name", metavar="WHO", help="Who decides. Default: your login name.")]
Until = Annotated[
    str | None, typer.Option("--until", metavar="END", help="When it ends: 30m, 2h, 3d, or 2026-11-24T09:00Z.")
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="WHY", help="Why, for those who come later.")]

_SHOWN_EVENTS = 6
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def alerts(
    database: Database = None,
    deployment: Deployment = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    as_json: Json = False,
) -> None:
    """What is wrong now: incidents, the alerts in each, and who has it.

    An incident gathers all alerts of a deployment that are open at the same
    time; incidents of kind health are the pipeline's own. It says how bad
    the evidence is (shift, warning, critical; error: not the images but the
    pipeline), and beside that how people handle it: open, acknowledged,
    silenced, expected. Provisional: shown, and told to nobody, until a
    baseline is accepted. All times are UTC.

    Example: oodwatch alerts --all --json
    """
    from pipeline.assembly.handling import list_incidents
    from pipeline.assembly.parts import settings_from

    settings = settings_from(database=database, deployment=deployment)
    listed = list_incidents(settings, everything=everything, answers=as_json)
    if as_json:
        for one in listed:
            print_json(_as_json(one))
        return
    for one in listed:
        for line in in_words(one):
            typer.echo(line)
    if not listed:
        typer.echo("no incident yet" if everything else "no incident is open")


def ack(
    incident: Number,
    text: Annotated[str, typer.Option("--note", metavar="TEXT", help="What you know or do, for the others.")] = "",
    name: Name = None,
    database: Database = None,
) -> None:
    """Say that you take care of an incident: it is not told again.

    It speaks again only where it gets worse, or shows in another segment.
    Also ends a silence.

    Example: oodwatch ack 7 --note "looking at camera north"
    """
    from pipeline.alerts.acts import Act

    _decide(incident, Act("acknowledge", who_decides(name), text), database)


def silence(
    incident: Number,
    until: Until = None,
    reason: Reason = None,
    unless_worse: Annotated[
        bool,
        typer.Option("--unless-worse", help="It ends early where twice the share is flagged, or in a new segment."),
    ] = False,
    name: Name = None,
    database: Database = None,
) -> None:
    """Be told nothing of an incident until a time, which has to be given.

    If it still goes on at that time, that is told. Its end is told anyway. A
    silence of half an hour or more says 15 minutes before that it ends soon.

    Example: oodwatch silence 7 --until 2h --reason "lens is being cleaned" --unless-worse
    """
    from pipeline.alerts.acts import Act

    act = Act("silence", who_decides(name), reason or "", unless_worse=unless_worse)
    _decide(incident, act, database, until)


def expect(
    incident: Number, until: Until = None, reason: Reason = None, name: Name = None, database: Database = None
) -> None:
    """Say that this is no fault but how it is now: a silence, and a candidate for the baseline.

    Once it has lasted, accept its time as normal with `oodwatch baseline accept`.

    Example: oodwatch expect 7 --until 2d --reason "winter sale: other products"
    """
    from pipeline.alerts.acts import Act

    _decide(incident, Act("expect", who_decides(name), reason or ""), database, until)


def note_on(
    incident: Number,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Up to 4,000 characters.")],
    name: Name = None,
    database: Database = None,
) -> None:
    """Add a note to an incident's history, also after its end.

    Example: oodwatch note 7 "was the cleaning crew, see ticket 1234"
    """
    from pipeline.alerts.acts import Act

    _decide(incident, Act("note", who_decides(name), text), database)


def _decide(incident: int, act: Act, database: str | None, until: str | None = None) -> None:
    from pipeline.assembly.handling import decide
    from pipeline.assembly.parts import settings_from

    settings = settings_from(database=database)
    act = dataclasses.replace(act, until=_time(until, settings.clock.now()))
    done = decide(settings, incident, act)
    for line in done.meanwhile:
        note(f"meanwhile: {_event(line)}")
    which = f"incident {incident} of {harmless(done.deployment)}"
    if not done.changed:
        typer.echo(f"{which} is {_handling(done.before)}: nothing was changed")
    elif act.kind == "note":
        typer.echo(f"{which}: noted")
    else:
        was = "" if done.before.handling == "open" else f" (it was {_handling(done.before)})"
        typer.echo(f"{which} is {_handling(done.after)}{was}")


def in_words(listed: Listed) -> Iterator[str]:
    """An incident in lines for people."""
    incident = listed.incident
    how = [f"incident {incident.id} of {harmless(listed.deployment.name)}"]
    if incident.resolved_at is None:
        how.append(f"{incident.state} since {_short(incident.onset)}")
    else:
        how.append(f"over: {_short(incident.onset)} to {_short(incident.resolved_at)}")
    if incident.peak != incident.state:
        how.append(f"at worst {incident.peak}")
    if incident.resolved_at is None:
        how.append(_handling(incident))
    if incident.provisional:
        how.append("provisional: told to nobody")
    if incident.kind == "health":
        how.append("health of the pipeline, apart from the false-alarm budget")
    yield ", ".join(how)
    for alert in incident.alerts:
        yield f"  {_alert(incident, alert)}"
    if (left := len(listed.history) - _SHOWN_EVENTS) > 0:
        yield f"    ... {left} earlier events, see --json"
    for line in listed.history[-_SHOWN_EVENTS:]:
        yield f"    {_event(line)}"


def _alert(incident: Incident, alert: Alert) -> str:
    from pipeline.alerts.evidence import stream_of
    from pipeline.cli.wording import stream_in_words

    of = alert.signal if incident.kind == "health" else stream_in_words(stream_of(alert.key))
    told = [f"{harmless(of)}: {alert.state}", f"since {_short(alert.onset)}"]
    if alert.share is not None and alert.low is not None and alert.high is not None:
        n = "" if alert.n is None else f" of {alert.n:,.0f} images"
        told.append(f"{alert.share:.1%}{n} flagged (95 %: {alert.low:.1%} to {alert.high:.1%})")
    if alert.peak != alert.state:
        told.append(f"at worst {alert.peak}")
    return ", ".join(told)


def _event(line: EventLine) -> str:
    of = line.segment or line.signal
    states = "" if line.to_state is None else f" {line.from_state} → {line.to_state}"
    text = f": {harmless(line.why)}" if line.why else ""
    kind = line.kind.replace("_", " ")
    return f"{_short(line.at)} {harmless(line.who)}: {kind}{f' {harmless(of)}' if of else ''}{states}{text}"


def _handling(incident: Incident) -> str:
    by = "" if incident.handled_by is None else f" by {harmless(incident.handled_by)}"
    until = "" if incident.handled_until is None else f" until {_short(incident.handled_until)}"
    unless = "" if incident.exception is None else " unless worse"
    return f"{incident.handling}{by}{until}{unless}"


def _as_json(listed: Listed) -> dict[str, object]:
    incident = listed.incident
    about = dataclasses.asdict(incident)
    alerts_of, exception = about.pop("alerts"), about.pop("exception")
    return {
        **(listed.payload or {}),
        "incident": _plain({**about, "exception": exception}),
        "alerts": [_plain(alert) for alert in alerts_of],
        "history": [_plain(_without_payload(line)) for line in listed.history],
        "judged": dict(listed.judged),
    }


def _without_payload(line: EventLine) -> dict[str, object]:
    return {name: value for name, value in line._asdict().items() if name != "payload"}


def _plain(values: dict[str, object]) -> dict[str, object]:
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in values.items()}


def who_decides(name: str | None) -> str:
    """The name given, else the login's. Raises UsageError where there is neither."""
    if name is not None:
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # no such user, as in a container
        raise UsageError("--name: say who decides this; there is no login name here") from error


def _time(text: str | None, now: datetime) -> datetime | None:
    from pipeline.assembly.sources import parse_time

    if text is None:
        return None
    if (lasting := _DURATION.fullmatch(text.strip())) is None:
        return parse_time("--until", text, else_as="30m, 2h or 3d, or ").astimezone(UTC)
    try:
        return now + float(lasting[1]) * _UNITS[lasting[2]]
    except OverflowError as error:
        raise UsageError(f"--until {text}: name an end in this millennium") from error


def _short(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%MZ}"
