from datetime import datetime, timedelta
from typing import Any

from pipeline.alerts.incident import Action
from pipeline.alerts.notification import Notification
from pipeline.alerts.standing import Standing, alerts_of
from tests.notified import MINUTE, T0, notification


def at(minutes: float) -> datetime:
    return T0 + minutes * MINUTE


def told(*events: tuple[Action, float, str]) -> tuple[Notification, ...]:
    return tuple(
        notification(action, event_id=number, at=at(minutes), severity=severity)
        for number, (action, minutes, severity) in enumerate(events)
    )


def standing(*events: tuple[Action, float, str], resolved: float | None = None) -> Standing:
    resolved_at = None if resolved is None else at(resolved)
    return Standing(3, T0 - 10 * MINUTE, "open", resolved_at, told(*events))


def shown(incident: Standing, now: float, **more: Any) -> list[tuple[str, datetime]]:
    alerts = alerts_of([incident], at(now), **more)
    return [(alert["labels"]["severity"], datetime.fromisoformat(alert["endsAt"])) for alert in alerts]


def test_an_open_incident_fires_until_three_renewals_from_now() -> None:
    incident = standing(("trigger", 0, "warning"))
    assert shown(incident, 60) == [("warning", at(63))]


def test_labels_hold_no_value_and_no_time_and_stay_the_same_while_values_move() -> None:
    first, later = (
        notification(severity="warning"),
        notification(event_id=8, at=at(5), severity="warning", value=0.9, onset=None, segment="cam-9", n=7),
    )
    incident = Standing(3, T0 - 10 * MINUTE, "acknowledged", None, (first, later))
    (alert,) = alerts_of([incident], at(6))
    assert alert["labels"] == {
        "alertname": "Oodwatch",
        "deployment": "digits",
        "model": "digits@0f3a",
        "reference": "digits-r1",
        "signal": "fraction",
        "segment": "cam-3",
        "severity": "warning",
    }
    assert alert["annotations"]["summary"].startswith("WARNING digits")
    assert "90 %, normally 1.1 %" in alert["annotations"]["summary"]
    assert alert["annotations"]["handling"] == "acknowledged"
    assert alert["generatorURL"] == "https://oodwatch.example.com/incident/3"
    assert alert["startsAt"] == (T0 - 10 * MINUTE).isoformat()


def test_a_worse_severity_ends_the_lesser_one_when_it_came_and_a_lesser_one_ends_nothing() -> None:
    incident = standing(("trigger", 0, "warning"), ("trigger", 10, "critical"), ("trigger", 12, "info"))
    assert shown(incident, 12) == [("critical", at(15)), ("warning", at(10))]
    assert shown(incident, 20) == [("critical", at(23))]  # the end of the warning was kept up for 5 min


def test_an_end_is_kept_up_for_five_minutes_and_told_at_any_time_where_it_is_due() -> None:
    incident = standing(("trigger", 0, "critical"), ("resolve", 30, "critical"), resolved=30)
    assert shown(incident, 31) == [("critical", at(30))]
    assert shown(incident, 35) == [("critical", at(30))]
    assert shown(incident, 36) == []
    assert shown(incident, 90, keep=None) == [("critical", at(30))]


def test_what_was_opened_again_fires_with_its_new_severity() -> None:
    incident = standing(("trigger", 0, "critical"), ("resolve", 30, "critical"), ("trigger", 60, "warning"))
    assert shown(incident, 61) == [("warning", at(64))]


def test_what_only_informs_makes_no_alert_and_starts_never_lie_behind_ends() -> None:
    assert shown(standing(("info", 0, "info")), 1) == []
    late = Standing(3, T0 + 60 * MINUTE, "open", at(2), told(("trigger", 1, "warning"), ("resolve", 2, "warning")))
    (alert,) = alerts_of([late], at(3))
    assert datetime.fromisoformat(alert["endsAt"]) - datetime.fromisoformat(alert["startsAt"]) == timedelta(minutes=1)
