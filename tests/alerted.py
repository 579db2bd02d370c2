"""What a monitor writes of incidents, and transitions as a detector writes them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from pipeline.alerts.incident import Channel
from pipeline.alerts.lifecycle import Rules
from pipeline.shift.verdict import StreamVerdict, Transition
from pipeline.stages.alerting import Alerting
from pipeline.storage.alert_schema import AlertingRow, AlertRow, IncidentEventRow, IncidentRow, OutboxRow
from pipeline.storage.verdicts import add_transitions, put_verdicts
from tests.monitored import MINUTE, T0, Traffic

CHANNELS = (Channel("chat"), Channel("pager", "critical", acknowledges=True))
LOUD = Alerting(Rules(page_provisional=True), CHANNELS)
ALERTED = (OutboxRow, IncidentEventRow, AlertRow, IncidentRow, AlertingRow)


def change(
    traffic: Traffic,
    stream: str,
    before: str,
    after: str,
    minute: float,
    *,
    share: float | None = None,
    provisional: bool = False,
    leading: str = "odds ×4",
) -> None:
    """A stream changes its state at a minute of event time, and that is decided at its end."""
    tick, now = T0 + minute * MINUTE, T0 + (minute + 1) * MINUTE
    low, high = (None, None) if share is None else (share / 2, min(1.0, 2 * share))
    verdict = StreamVerdict(stream, after, 9.0, tick, share, low, high, Transition(before, after, None, None, leading))
    which = traffic.deployment_id, traffic.reference_id
    with traffic.engine.begin() as conn:
        put_verdicts(conn, *which, tick, [verdict], provisional=provisional)
        add_transitions(conn, *which, [(tick, verdict)], provisional=provisional, now=now)


def story(traffic: Traffic, first: int = 0) -> None:
    """Two segments and a histogram: up, down, over, back, and over again."""
    for at, (stream, before, after) in enumerate(STORY):
        change(traffic, stream, before, after, first + at, share=0.3)


STORY: Sequence[tuple[str, str, str]] = (
    ("segment:cam-0", "ok", "warning"),
    ("pooled", "ok", "shift"),
    ("segment:cam-0", "warning", "critical"),
    ("histogram:cam-1", "ok", "shift"),
    ("segment:cam-0", "critical", "warning"),
    ("pooled", "shift", "ok"),
    ("segment:cam-0", "warning", "shift"),
    ("histogram:cam-1", "shift", "ok"),
    ("segment:cam-0", "shift", "ok"),
    ("segment:cam-1", "ok", "critical"),
    ("segment:cam-1", "critical", "warning"),
    ("segment:cam-1", "warning", "ok"),
)


def rows(engine: Engine, table: Any) -> list[dict[str, Any]]:
    """All of one table, by key."""
    with engine.connect() as conn:
        return [
            dict(row._mapping) for row in conn.execute(select(table.__table__).order_by(*table.__table__.primary_key))
        ]


def incidents_told(engine: Engine) -> dict[str, list[Any]]:
    """All that is stored of incidents, with places in their order instead of keys: rolled back ones leave gaps."""
    found = {table.__tablename__: rows(engine, table) for table in ALERTED}
    places = {name: {row.get("id"): at for at, row in enumerate(lines)} for name, lines in found.items()}
    for lines in found.values():
        for row in lines:
            for column, name in (("incident_id", "incident"), ("alert_id", "alert"), ("event_id", "incident_event")):
                if row.get(column) is not None:
                    row[column] = places[name][row[column]]
            if payload := row.get("payload"):
                del payload["fingerprint"], payload["incident"]["id"]
                payload.pop("transition")
    left_out = {"id", "revision", "transition_id"}
    return {
        name: [{column: value for column, value in row.items() if column not in left_out} for row in lines]
        for name, lines in found.items()
    }


def at(minute: float) -> datetime:
    """So many minutes after the beginning."""
    return T0 + minute * MINUTE
