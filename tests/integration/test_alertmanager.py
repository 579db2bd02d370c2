"""A real Alertmanager is told what stands: it fires once, however often it is told, and resolves."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.assembly.telling import make_channels
from pipeline.records import utc_now
from pipeline.settings import load_settings
from pipeline.storage.engine import open_database
from tests.notified import Receiver, Story, delivering, receiving
from tests.services.alertmanager import running_alertmanager
from tests.services.processes import wait_until


def heard(receiver: Receiver) -> list[tuple[str, list[tuple[str, str]]]]:
    """The notifications that Alertmanager has sent on: its status, and (severity, status) of each alert."""
    said: list[dict[str, Any]] = [json.loads(request.body) for request in receiver.requests]
    return [
        (told["status"], sorted((alert["labels"]["severity"], alert["status"]) for alert in told["alerts"]))
        for told in said
    ]


def test_an_incident_fires_as_one_alert_grows_worse_and_resolves(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    story = Story(engine)
    with receiving() as receiver, running_alertmanager(tmp_path, receiver.url) as server:
        channel = {"name": "am", "kind": "alertmanager", "url": server.url}
        channels = make_channels(load_settings(channels=[channel]), utc_now)
        telling = delivering(engine, utc_now, *channels, renew_every=timedelta(microseconds=1))
        begun = utc_now()
        incident = story.incident(at=begun)
        story.event(incident, "am", at=begun, severity="warning")
        telling.once()
        for _ in range(5):
            telling.once()
        (alert,) = server.alerts()
        assert alert["labels"] == {
            "alertname": "Oodwatch",
            "deployment": "d",
            "model": "digits@0f3a",
            "reference": "digits-r1",
            "signal": "fraction",
            "segment": "cam-3",
            "severity": "warning",
        }
        assert alert["generatorURL"] == "https://oodwatch.example.com/incident/3"
        assert alert["status"]["state"] == "active"
        assert alert["annotations"]["incident"] == str(incident)
        wait_until(lambda: heard(receiver) == [("firing", [("warning", "firing")])], "the first notification")

        story.event(incident, "am", at=utc_now(), severity="critical", value=0.8)
        telling.once()
        assert [alert["labels"]["severity"] for alert in server.alerts()] == ["critical"]
        wait_until(lambda: ("critical", "firing") in heard(receiver)[-1][1], "the worse one")

        story.event(incident, "am", action="resolve", at=utc_now(), severity="critical")
        telling.once()
        assert server.alerts() == []
        wait_until(lambda: heard(receiver)[-1][0] == "resolved", "its end")
        telling.once()  # the end is kept up, and changes nothing
        assert server.alerts() == []
    assert [row.attempts for row in story.outbox()] == [1, 1, 1]
    assert telling.told.renewals["am", "failed"] == 0
    engine.dispose()


def test_what_nobody_renews_ends_by_itself_three_minutes_later(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    story = Story(engine)
    with receiving() as receiver, running_alertmanager(tmp_path, receiver.url) as server:
        channel = {"name": "am", "kind": "alertmanager", "url": f"{server.url}/"}
        begun = utc_now()
        story.event(story.incident(at=begun), "am", at=begun)
        delivering(engine, lambda: begun, *make_channels(load_settings(channels=[channel]), utc_now)).once()
        (alert,) = server.alerts()
        assert alert["endsAt"] == (begun + timedelta(minutes=3)).isoformat(timespec="milliseconds").replace(
            "+00:00", "Z"
        )
    engine.dispose()
