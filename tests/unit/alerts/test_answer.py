import json
from datetime import timedelta

import pytest

from pipeline.alerts.answer import leading_alert, links, payload
from pipeline.alerts.page import headline, page
from tests.unit.alerts.told import EVENT, NOW, ONSET, alert, answer, incident

KEYS = {
    *("version", "transition", "incident", "alert", "fingerprint", "at", "from", "to", "severity", "deployment"),
    *("model", "reference", "segment", "window", "value", "normal", "warning", "critical", "n", "n_effective"),
    *("onset", "attribution", "cause", "matters", "trust", "links"),
}


def test_the_payload_holds_all_of_webhook_v1_as_plain_json() -> None:
    told = payload(answer(incident()), EVENT, 41)
    assert told.keys() >= KEYS
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["version"], told["transition"], told["fingerprint"]) == (1, 41, "oodwatch/gates/7")
    assert (told["value"], told["normal"], told["severity"], told["segment"]) == (0.28, 0.02, "critical", "east")
    assert (told["window"]["from"], told["onset"]) == ("2026-11-24T00:49:00Z", "2026-11-24T00:49:00Z")
    assert told["matters"]["labels"]["among_flagged"]["share"] == 0.25


def test_shares_of_segments_and_of_classes_sum_to_one_each() -> None:
    told = payload(answer(incident()), EVENT)["attribution"]
    assert [(one["segment"], one["share"]) for one in told if "segment" in one] == [("east", 0.82), ("north", 0.18)]
    assert [(one["class"], one["share"]) for one in told if "class" in one] == [("cat", 1.0)]


def test_links_hold_the_incident_and_the_window_in_milliseconds() -> None:
    told = links("https://look.example.com/", 7, (ONSET, NOW))
    first = int(ONSET.timestamp()) * 1000
    assert told == {"dashboard": f"https://look.example.com/?incident=7&from={first}&to={first + 3_600_000}"}
    assert links(None, 7, (ONSET, NOW)) == {}


@pytest.mark.parametrize(
    ("state", "to", "severity"),
    [("critical", None, "critical"), ("shift", "shift", "info"), ("ok", "ok", "warning")],
)
def test_what_has_ended_is_as_severe_as_it_was(state: str, to: str | None, severity: str) -> None:
    of = incident(state=state, peak="warning" if state == "ok" else state)
    event = type(EVENT)(7, None, None, NOW, "note", None, to, "ann", "")
    assert payload(answer(of), event)["severity"] == severity


def test_the_worst_open_alert_leads_and_a_segments_flags_before_the_rest() -> None:
    alerts = (
        alert("histogram", "", "shift"),
        alert("fraction", "", "critical"),
        alert("fraction", "east", "critical"),
        alert("fraction", "north", "critical", resolved_at=NOW),
    )
    of = incident(*alerts)
    assert leading_alert(of, None) is alerts[2]
    own = type(EVENT)(7, ("histogram", ""), None, NOW, "raise", None, "shift", "monitor", "")
    assert leading_alert(of, own) is alerts[0]


def test_the_page_begins_with_one_sentence() -> None:
    told = payload(answer(incident()), EVENT)
    assert headline(told) == (
        "gates critical: unusual images on east since 2026-11-24 00:49Z, 28.0% flagged, normally 2.0% (n 1,000,"
        " 95 %: 25.0% to 31.0%), looks like lens or exposure, nobody has it."
    )
    lines = page(told).splitlines()
    assert lines[0] == headline(told)
    for expected in (
        "   82% segment east: 260 images, now 28.0%, normally 2.0%",
        "  lens or exposure (0.90 of 1)",
        "  accuracy now at most 73% (95 %: 70% to 76%, from the confidence of 1,000 images); on the reference 95%",
        "  among flagged images: 25% right of 20 (95 %: 9% to 49%)",
        "  newest image 20 s old, 12 records waiting, 99.98% of the records scored; 800 effective images",
        "  2026-11-24T00:45:00Z deploy v12 (ann), 4 min before the onset",
        "  say that you have it: oodwatch ack 7",
    ):
        assert expected in lines


def test_rubbish_in_names_cannot_move_the_cursor() -> None:
    of = incident(alert(segment="\x1b[2J<b>east\r\n"))
    text = page(payload(answer(of), EVENT))
    assert "\x1b" not in text
    assert "\r" not in text
    assert "�[2J<b>east" in text.splitlines()[0]


def test_who_handles_it_is_said_and_what_is_over_asks_for_nothing() -> None:
    told = payload(answer(incident(handling="acknowledged", handled_by="ann")), EVENT)
    assert headline(told).endswith(", ann has it.")
    over = incident(alert(resolved_at=NOW), handling="resolved", resolved_at=NOW + timedelta(hours=1), state="ok")
    text = page(payload(answer(over, dashboard_url=None), EVENT))
    assert text.splitlines()[0].startswith("gates resolved: ")
    assert "oodwatch ack" not in text
