"""While scores cannot be held against their reference, nobody is told of what rests on them. Pure."""

from collections.abc import Iterable
from datetime import datetime

from pipeline.alerts.incident import SILENCE, Alert, Incident

#: The state, and the kind of event, of an alert that says so.
INVALID = "baseline_invalid"
#: Why what is raised meanwhile is not told.
HELD = "told to nobody, as scores cannot be held against their reference now"
#: Why it is told later.
VALID_AGAIN = "scores can be held against their reference again, and it goes on"


def is_held(incident: Incident, alert: Alert, book: Iterable[Incident]) -> bool:
    """Whether an alert rests on scores while these mean nothing; that no images come is so all the same."""
    if incident.kind != "shift" or alert.signal == SILENCE:
        return False
    return any(other.state == INVALID for one in book for other in one.open_alerts)


def held_back(incident: Incident, alerts: Iterable[Alert], book: Iterable[Incident], *, since: datetime) -> list[Alert]:
    """Those of these alerts that came while scores meant nothing; none once anything was told after that."""
    ended = [
        other.resolved_at
        for one in book
        for other in one.alerts
        if other.peak == INVALID and other.resolved_at is not None and other.resolved_at >= since
    ]
    if incident.kind != "shift" or not ended:
        return []
    valid_at, told_at = max(ended), incident.told_at
    if told_at is None:
        return [alert for alert in alerts if alert.raised_at <= valid_at]
    return [alert for alert in alerts if told_at < alert.raised_at <= valid_at]
