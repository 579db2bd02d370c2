import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.senders.pagerduty import event_of
from pipeline.senders.stdout import Stdout
from pipeline.senders.webhook import signature
from tests.notified import T0, notification

#: https://developer.pagerduty.com/docs/events-api-v2/trigger-events: names, types and lengths of the fields.
PUBLISHED: dict[str, Any] = {
    "routing_key": str, "event_action": str, "dedup_key": str, "payload": dict, "client": str, "client_url": str,
    "links": list, "images": list,
}  # fmt: skip
PUBLISHED_PAYLOAD: dict[str, Any] = {
    "summary": str, "source": str, "severity": str, "timestamp": str, "component": str, "group": str, "class": str,
    "custom_details": dict,
}  # fmt: skip


def hmac_by_hand(key: bytes, message: bytes) -> str:
    """RFC 2104, written out."""
    key = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()


@pytest.mark.parametrize("key", [b"k", b"x" * 64, b"long" * 40])
def test_the_signature_is_the_hmac_of_time_and_body(key: bytes) -> None:
    body = '{"segment": "Süd"}'.encode()
    at = datetime(2026, 11, 24, 3, 0, 0, 999_999, UTC)
    assert signature(key, body, at) == f"t=1795489200,v1={hmac_by_hand(key, b'1795489200.' + body)}"


def test_a_trigger_has_only_published_fields_of_their_types_and_lengths() -> None:
    event = event_of(notification(segment="cam\n3" * 1000))
    assert all(isinstance(value, PUBLISHED[name]) for name, value in event.items())
    assert all(isinstance(value, PUBLISHED_PAYLOAD[name]) for name, value in event["payload"].items())
    assert {"summary", "source", "severity"} <= set(event["payload"])
    assert len(event["payload"]["summary"]) <= 1024
    assert len(event["dedup_key"]) <= 255
    assert datetime.fromisoformat(event["payload"]["timestamp"]) == T0
    assert event["links"] == [{"href": "https://oodwatch.example.com/incident/3", "text": "incident"}]
    assert event["client_url"] == "https://oodwatch.example.com/incident/3"
    assert event["payload"]["custom_details"]["interval"] == {"low": 0.28, "high": 0.35}
    assert len(json.dumps(event)) < 512 * 1024


@pytest.mark.parametrize(
    ("severity", "said"),
    [("critical", "critical"), ("warning", "warning"), ("info", "info"), ("error", "error"), ("odd", "info")],
)
def test_severities_are_pagerdutys_own(severity: str, said: str) -> None:
    assert event_of(notification(severity=severity))["payload"]["severity"] == said


def test_acknowledge_and_resolve_only_name_the_incident() -> None:
    for action in ("acknowledge", "resolve"):
        assert event_of(notification(action)) == {"event_action": action, "dedup_key": "oodwatch/digits/3"}


def test_stdout_gets_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    Stdout("log").send(notification(segment="a\nb"))
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    said = json.loads(line)
    assert (said["channel"], said["action"], said["segment"], said["version"]) == ("log", "trigger", "a\nb", 1)
