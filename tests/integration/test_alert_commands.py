"""What whoever is on call types, and what they are told."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage.alert_schema import IncidentEventRow, IncidentRow
from pipeline.storage.engine import open_database
from tests.alerted import LOUD, at, change, rows
from tests.integration.typing_commands import Command
from tests.monitored import MINUTE, T0, Traffic, monitor

EVIL = "cam\x1b[2J\u202e<script>[/red]"


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Traffic]:
    """A shift on two segments, one of them named by somebody with bad intent."""
    engine = open_database(f"sqlite:///{tmp_path / 'watched.db'}")
    traffic = Traffic(engine)
    traffic.minutes(3)
    monitor(engine, T0 + 3 * MINUTE, alerting=LOUD).run()
    change(traffic, "segment:cam-0", "ok", "critical", 2, share=0.28)
    change(traffic, f"segment:{EVIL}", "ok", "shift", 3)
    monitor(engine, T0 + 4 * MINUTE, alerting=LOUD).run()
    yield traffic
    engine.dispose()


@pytest.fixture
def url(traffic: Traffic) -> str:
    return str(traffic.engine.url)


def test_an_incident_is_shown_with_its_alerts_and_its_history(command: Command, url: str) -> None:
    shown = command("alerts", "--database", url)
    assert shown.code == 0
    assert shown.out.splitlines() == [
        "incident 1 of d, critical since 2026-11-24 00:02Z, open",
        "  segment cam-0: critical, since 2026-11-24 00:02Z, 28.0% flagged (95 %: 14.0% to 56.0%)",
        "  segment cam\\x1b[2J\\u202e<script>[/red]: shift, since 2026-11-24 00:03Z",
        "    2026-11-24 00:03Z monitor: raise cam-0 ok → critical: odds ×4",
        "    2026-11-24 00:04Z monitor: raise cam\\x1b[2J\\u202e<script>[/red] ok → shift: odds ×4",
    ]


def test_as_json_it_is_the_payload_of_a_webhook_with_alerts_and_history(command: Command, url: str) -> None:
    shown = command("alerts", "--json", "--database", url)
    (line,) = (json.loads(text) for text in shown.out.splitlines())
    assert (line["version"], line["deployment"], line["fingerprint"]) == (1, "d", "oodwatch/d/1")
    assert (line["incident"]["state"], line["incident"]["handling"]) == ("critical", "open")
    assert (line["incident"]["opened_at"], line["onset"]) == ("2026-11-24T00:03:00Z", "2026-11-24T00:02:00Z")
    assert [alert["segment"] for alert in line["alerts"]] == ["cam-0", EVIL]
    assert [event["kind"] for event in line["history"]] == ["raise", "raise"]
    assert line["judged"] == {"shift": 0, "noise": 0, "bad_input": 0}


def test_it_is_acknowledged_silenced_expected_and_noted_on(command: Command, url: str, traffic: Traffic) -> None:
    on = ("--database", url)
    assert command("ack", 1, "--name", "ann", *on).out == "incident 1 of d is acknowledged by ann\n"
    assert (
        command("ack", 1, "--name", "bob", *on).out == "incident 1 of d is acknowledged by ann: nothing was changed\n"
    )
    words = ("--until", "2h", "--reason", "lens", "--unless-worse", "--name", "bob")
    silenced = command("silence", 1, *words, *on).out
    assert re.fullmatch(
        r"incident 1 of d is silenced by bob until 20\S+ \S+Z unless worse \(it was acknowledged by ann\)\n", silenced
    )
    expected = command("expect", 1, "--until", "2999-01-01T01:00+01:00", "--reason", "sale", "--name", "ann", *on).out
    assert expected.startswith(
        "incident 1 of d is expected by ann until 2999-01-01 00:00Z (it was silenced by bob until"
    )
    assert command("note", 1, "see \x1b]0;ticket\x07", "--name", "ann\n", *on).out == "incident 1 of d: noted\n"
    assert [(row["kind"], row["who"]) for row in rows(traffic.engine, IncidentEventRow)[2:]] == [
        ("acknowledge", "ann"),
        ("silence", "bob"),
        ("expect", "ann"),
        ("note", "ann\n"),
    ]
    last = command("alerts", *on).out.splitlines()[-1]
    assert last.endswith("ann\\n: note: see \\x1b]0;ticket\\x07")


@pytest.mark.parametrize("kind", ["silence", "expect"])
def test_a_silence_lasts_by_the_clock_that_all_processes_share(
    command: Command, url: str, traffic: Traffic, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("OODWATCH_CLOCK__BEGAN", "2026-11-01T00:00Z")
    monkeypatch.setenv("OODWATCH_CLOCK__FACTOR", "3")
    assert command(kind, 1, "--until", "20m", "--reason", "x", "--database", url).code == 0
    (stored,) = rows(traffic.engine, IncidentRow)
    event = rows(traffic.engine, IncidentEventRow)[-1]
    assert timedelta() < stored["handled_until"] - event["at"] <= timedelta(minutes=20)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("ack", 9), 2, "there is no incident 9; `oodwatch alerts --all` lists them"),
        (("silence", 1, "--until", "2h"), 2, "--reason: say why"),
        (("silence", 1, "--reason", "x"), 2, "--until none: name an end that is to come, as 2h"),
        (("silence", 1, "--reason", "x", "--until", "soon"), 2, "write 30m, 2h or 3d, or an ISO time"),
        (("silence", 1, "--reason", "x", "--until", "-2h"), 2, "write 30m, 2h or 3d, or an ISO time"),
        (("silence", 1, "--reason", "x", "--until", "2026-01-01T00:00Z"), 2, "which is over"),
        (("expect", 1, "--reason", "x", "--until", "9999999999d"), 2, "in this millennium"),
        (("note", 1, ""), 2, "write one"),
        (("ack", 1, "--name", " "), 2, "say who"),
        (("alerts", "--deployment", "x"), 2, "there is no deployment 'x'; known: d"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    command: Command, url: str, traffic: Traffic, words: tuple[Any, ...], code: int, said: str
) -> None:
    command(*words, "--database", url).refuses(code, said)
    assert len(rows(traffic.engine, IncidentEventRow)) == 2


def test_what_is_over_is_listed_on_request_and_can_only_be_noted_on(
    command: Command, url: str, traffic: Traffic
) -> None:
    change(traffic, "segment:cam-0", "critical", "ok", 10)
    change(traffic, f"segment:{EVIL}", "shift", "ok", 11)
    monitor(traffic.engine, at(12), alerting=LOUD).run()
    on = ("--database", url)
    assert command("alerts", *on).out == "no incident is open\n"
    first = command("alerts", "--all", *on).out.splitlines()[0]
    assert first == "incident 1 of d, over: 2026-11-24 00:02Z to 2026-11-24 00:12Z, at worst critical"
    refused = command("ack", 1, *on)
    refused.refuses(3, "incident 1 ended at 2026-11-24T00:12Z: there is nothing to acknowledge", "oodwatch note 1 TEXT")
    assert command("note", 1, "cleaning crew", *on).code == 0
    assert rows(traffic.engine, IncidentRow)[0]["handling"] == "resolved"


def test_before_the_first_incident_there_is_none(command: Command, tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'quiet.db'}")
    Traffic(engine)
    on = ("--database", str(engine.url))
    assert command("alerts", *on).out == "no incident is open\n"
    assert command("alerts", "--all", *on).out == "no incident yet\n"
    assert command("alerts", "--json", *on).out == ""
    engine.dispose()
