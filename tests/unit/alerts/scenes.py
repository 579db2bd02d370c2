"""An incident book to be written in, with a clock in minutes."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.alerts.acts import Act, handle
from pipeline.alerts.evidence import Evidence, Stream
from pipeline.alerts.incident import Channel, Event, Incident, Key, told_to
from pipeline.alerts.lifecycle import Casebook, Rules

T0 = datetime(2026, 11, 24, tzinfo=UTC)
NORTH: Key = ("fraction", "north")
SOUTH: Key = ("fraction", "south")
EVERYONE = (Channel("chat"), Channel("mail", "warning"), Channel("pager", "critical", acknowledges=True))


def minute(at: float) -> datetime:
    return T0 + timedelta(minutes=at)


class Scene:
    """What happens to one deployment, and what was told of it."""

    def __init__(self, rules: Rules = Rules(), incidents: tuple[Incident, ...] = ()) -> None:  # noqa: B008 frozen
        self.book = Casebook(1, incidents, rules)
        self.transitions = 0

    def see(
        self, key: Key, state: str, at: float, *, newest: float | None = None, now: float | None = None, **more: Any
    ) -> None:
        """A stream changes its state."""
        self.transitions += 1
        defaults: dict[str, Any] = {
            "kind": "shift",
            "reference_id": 1,
            "onset": minute(at),
            "transition_id": self.transitions,
        }
        evidence = Evidence(
            signal=key[0],
            segment=key[1],
            state=state,
            at=minute(at),
            newest=minute(at if newest is None else newest),
            **{**defaults, **more},
        )
        self.book.follow(evidence, now=minute(at if now is None else now))

    def well(self, rule: str, state: str, at: float) -> None:
        """A health rule finds something."""
        self.see((rule, ""), state, at, kind="health", transition_id=None)

    def wait(
        self,
        until: float,
        *,
        newest: float | None = None,
        shares: Mapping[Key, float] | None = None,
        ended: tuple[Key, ...] = (),
    ) -> None:
        """Time has passed; streams have images up to then, or to `newest`."""
        reach = minute(until if newest is None else newest)
        streams = {
            alert.key: Stream(reach, (shares or {}).get(alert.key), alert.key in ended)
            for incident in self.book.incidents.values()
            for alert in incident.open_alerts
        }
        self.book.look(streams, now=minute(until))

    def do(
        self,
        kind: Any,
        at: float,
        *,
        until: float | None = None,
        why: str = "known",
        who: str = "ann",
        which: int | None = None,
        shares: Mapping[Key, float] | None = None,
        unless_worse: bool = False,
    ) -> bool:
        """A person decides; whether that changed anything."""
        incident = self.incident if which is None else self.book.incidents[which]
        act = Act(kind, who, why, None if until is None else minute(until), unless_worse)
        streams = {key: Stream(minute(at), share) for key, share in (shares or {}).items()}
        done = handle(incident, act, streams, now=minute(at))
        if done is not None:
            self.book._add(done[1], done[0])
        return done is not None

    @property
    def incident(self) -> Incident:
        """The newest."""
        return list(self.book.incidents.values())[-1]

    @property
    def handling(self) -> str:
        return self.incident.handling

    @property
    def events(self) -> list[Event]:
        return [happened.event for happened in self.book.happened]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    @property
    def told(self) -> list[tuple[str, str | None]]:
        """(kind, to) of what was told."""
        return [(event.kind, event.to_state) for event in self.events if event.loud]

    def heard_by(self, channel: str) -> list[str]:
        """Kinds of what one channel hears."""
        return [
            happened.event.kind
            for happened in self.book.happened
            if channel in told_to(happened.event, happened.incident, EVERYONE)
        ]
