"""What the doctor says of who is told."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.doctor.channels import check_channels
from pipeline.errors import UsageError
from pipeline.settings import load_settings
from tests.notified import receiving
from tests.services.processes import free_port


def test_a_channel_whose_server_listens_is_well_and_one_that_nobody_answers_is_named() -> None:
    port = free_port()
    with receiving() as receiver:
        channels: list[dict[str, Any]] = [
            {"name": "hook", "kind": "webhook", "url": f"{receiver.url}/s3cret-path"},
            {"name": "down", "kind": "webhook", "url": f"http://127.0.0.1:{port}/s3cret-path"},
            {"name": "log", "kind": "stdout"},
        ]
        findings = list(check_channels(load_settings(channels=channels)))
        assert not receiver.requests
    assert [finding.state for finding in findings] == ["ok", "warning", "ok"]
    assert findings[1].found.startswith(f"down (webhook): no connection to 127.0.0.1:{port}: ")
    assert not any("s3cret" in finding.as_text() for finding in findings)


def test_a_key_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    missing = {"name": "pd", "kind": "pagerduty", "secret_file": str(tmp_path / "key")}
    with pytest.raises(UsageError, match=r"channels: pd \(pagerduty\): secret_file = .*No such file"):
        list(check_channels(load_settings(channels=[missing])))


def test_without_channels_nobody_is_told() -> None:
    assert [(one.state, one.found) for one in check_channels(load_settings())] == [("skipped", "nobody is told")]
