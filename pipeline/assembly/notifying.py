"""What `oodwatch notify` does: try the channels, and look at the outbox."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial

from pipeline.alerts.delivery import Undelivered
from pipeline.alerts.trial import standing_trial, trial
from pipeline.assembly.parts import existing_database
from pipeline.assembly.telling import make_channels
from pipeline.errors import UsageError
from pipeline.records import utc_now
from pipeline.senders.sender import Channel, Renewer
from pipeline.settings import Settings
from pipeline.stages.lanes import Attempt, Lanes
from pipeline.storage.engine import reading
from pipeline.storage.outbox import channel_states


@dataclass(frozen=True, slots=True)
class Tried:
    """How a channel has taken a test."""

    channel: str
    kind: str
    where: str
    ok: bool
    said: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A channel and what has become of what it was to tell."""

    channel: str
    kind: str = ""  # empty: it is not in the settings
    where: str = ""
    min_state: str = ""
    events: str = ""
    waiting: int = 0
    delivered: int = 0
    given_up: int = 0
    oldest_waiting: datetime | None = None
    last_delivered: datetime | None = None
    last_error: str | None = None


def try_channels(settings: Settings, name: str | None) -> Iterator[Tried]:
    """Send a test through the named channel, or through each. Raises UsageError where there is none."""
    channels = [channel for channel in make_channels(settings, utc_now) if name in (None, channel.name)]
    if not channels:
        known = ", ".join(channel.name for channel in settings.channels)
        raise UsageError(
            f"there is no channel {name!r}; known: {known or 'none'}"
            if name is not None
            else "there are no channels; write a [[channels]] table into the settings, see `oodwatch init`"
        )
    for channel in channels:
        yield _tried(channel, settings.deployment or "test")


def channels_and_outbox(settings: Settings) -> list[Listed]:
    """The channels of the settings in their order, then those that the outbox alone knows."""
    with existing_database(settings) as engine, reading(engine).connect() as conn:
        states = {state.channel: state for state in channel_states(conn)}
    listed = [
        Listed(channel.name, channel.kind, channel.where, rule.min_state, rule.events)
        for channel, rule in zip(make_channels(settings, utc_now), settings.channels, strict=True)
    ]
    configured = {line.channel for line in listed}
    listed += [Listed(name) for name in states if name not in configured]
    return [replace(line, **asdict(states[line.channel])) if line.channel in states else line for line in listed]


def _tried(channel: Channel, deployment: str) -> Tried:
    heard: list[Undelivered | None] = []
    lanes = Lanes()
    lanes.start(Attempt(channel.name, partial(_say, channel, deployment), channel.hide, heard.append))
    lanes.hear(None)
    (failure,) = heard
    return Tried(channel.name, channel.kind, channel.where, failure is None, "" if failure is None else str(failure))


def _say(channel: Channel, deployment: str) -> None:
    now = utc_now()
    told = trial("trigger", deployment=deployment, now=now)
    if isinstance(channel.teller, Renewer):
        channel.teller.renew([standing_trial(told)], now)
        return
    channel.teller.send(told)
    if channel.kind == "pagerduty":  # which else would keep it open
        channel.teller.send(trial("resolve", deployment=deployment, now=now))
