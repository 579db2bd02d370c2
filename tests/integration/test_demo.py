"""The demo from its command to its last line: a worker and a monitor of its own, and a story that they notice."""

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    """A short story, headless."""
    command = [sys.executable, "-m", "pipeline", "demo", "--headless", "--seconds", "60", "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, Any] = json.loads(printed.stdout.splitlines()[-1])
    found["said"] = printed.stderr
    return found


def test_every_image_ends_as_a_row_or_as_a_dead_letter(summary: dict[str, Any]) -> None:
    sent = round(60 * summary["images_per_second"])
    assert summary["images"] + summary["dead_letters"] == pytest.approx(sent, rel=0.05)
    assert summary["dead_letters"] == (summary["images"] + summary["dead_letters"]) // 251


def test_nothing_is_raised_before_the_cats_and_their_camera_is_and_recovers(summary: dict[str, Any]) -> None:
    (cats,) = summary["scenes"]
    assert min(alert["raised_s"] for alert in summary["alerts"]) >= cats["start_s"]
    (camera,) = [a for a in summary["alerts"] if (a["segment"], a["signal"]) == (cats["camera"], "fraction")]
    assert camera["state"] == "critical"
    assert camera["raised_s"] <= cats["start_s"] + 60
    assert camera["resolved_s"] is not None
    assert {alert["segment"] for alert in summary["alerts"]} <= {"", cats["camera"]}


def test_the_page_is_told_in_the_terminal(summary: dict[str, Any]) -> None:
    (said,) = [
        line
        for line in summary["said"].splitlines()
        if "page " in line and "critical: unusual images on belt-2" in line
    ][:1]
    assert "normally" in said
    assert "(provisional)" not in summary["said"]
