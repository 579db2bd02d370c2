import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.letter import body, in_words, share, title
from pipeline.alerts.notification import Notification, is_link
from pipeline.alerts.plain import bounded, finite, neutral, plain
from tests.notified import MINUTE, T0, notification

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = (
    "segment", "onset", "value", "normal", "n", "attribution", "cause", "links", "severity", "deployment", "from",
)  # fmt: skip


def test_the_title_says_how_bad_where_and_what() -> None:
    assert title(notification()) == "CRITICAL digits · ok -> critical · segment cam-3 · 31.4 %, normally 1.1 %"
    assert title(notification("resolve")).startswith("RESOLVED digits")
    assert title(notification(test=True)).startswith("TEST of oodwatch, nothing is wrong: CRITICAL digits")
    rate = notification(unit="images a minute", value=0.5, normal=120.0)
    assert title(rate).endswith("0.5 images a minute, normally 120 images a minute")


def test_the_body_is_an_answer_in_lines() -> None:
    assert body(notification(who="ann", why="looking")).splitlines() == [
        "by: ann looking",
        "since: 2026-11-24T02:10:00+00:00",
        "segment: cam-3",
        "now: 31.4 %, 95 %: 28 % to 35 %, of 1200 images",
        "normally: 1.1 %",
        "where: 91 % segment cam-3; 9 % segment cam-1",
        "likely cause: a lens (sharpness fell by 40 %)",
        "does it matter: accuracy at most 71 %",
        "can it be trusted: newest_result_age_seconds 12, lag_records 0, scored_ratio 1",
        "model: digits＠0f3a",
        "reference: digits-r1",
        "more: oodwatch why 3",
        "incident: https://oodwatch.example.com/incident/3",
    ]


def test_strings_of_others_cannot_act_in_a_text() -> None:
    evil = "<b>x</b> [click](http://evil) @everyone <!channel> *a* `b`\n\x1b[31m\u202e# head"
    names: dict[str, Any] = {"attribution": [{"segment": evil, "share": 0.5}], "who": evil, "why": evil, "links": {}}
    said = body(notification(segment=evil, **names))
    assert not set("<>[]@*`#\x1b\u202e") & set(said)
    assert len(said.splitlines()) == len(body(notification(who="x", links={})).splitlines())


@given(st.text(), st.integers(1, 50))
def test_plain_text_is_one_line_of_bounded_length_without_control_characters(text: str, limit: int) -> None:
    line = plain(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs"}
    assert plain(line, limit) == line
    assert len(neutral(line)) == len(line)


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_rubbish_in_the_payload_still_makes_a_notification(found: dict[str, Any]) -> None:
    told = Notification(1, 2, "trigger", found, T0)
    assert told.severity in ("critical", "warning", "info", "error")
    assert len(told.dedup_key) <= 255
    assert len(title(told).splitlines()) == 1
    assert body(told).count("\n") <= 12 + len(told.links)
    assert all(is_link(link) for link in told.links.values())


@given(JSON)
def test_a_value_may_be_bounded_twice_and_is_json_without_numbers_that_are_none(value: Any) -> None:
    once = finite(bounded(value))
    assert finite(bounded(once)) == once
    assert json.loads(json.dumps(once, allow_nan=False)) == once


def test_a_bounded_value_leaves_out_what_is_too_much() -> None:
    deep: dict[str, Any] = {}
    for _ in range(10):
        deep = {"inner": deep, "list": list(range(200)), "text": "x" * 5_000}
    small = bounded(deep)
    depth = 0
    while small:
        assert len(small["list"]) <= 50
        assert len(small["text"]) == 1_000
        small, depth = small["inner"], depth + 1
    assert depth == 6


def test_the_key_is_the_same_for_a_repetition_and_another_for_another_event_or_database() -> None:
    assert notification().key == notification("resolve").key == "20261124T030000.000000Z-7"
    assert len({notification().key, notification(event_id=8).key, notification(at=T0 + MINUTE).key}) == 3


def test_the_dedup_key_is_of_the_incident_and_at_most_255_characters_long() -> None:
    assert notification().dedup_key == notification("resolve", event_id=9).dedup_key == "oodwatch/digits/3"
    long = notification(deployment="d" * 300).dedup_key
    assert len(long) <= 255
    assert long.endswith("/3")


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.314, "31.4 %"), (1, "100 %"), (0, "0 %"), (1.5, ""), (None, ""), ("x", ""), (True, ""), (float("nan"), "")],
)
def test_a_share_is_said_in_percent_and_anything_else_is_not(value: object, said: str) -> None:
    assert share(value) == said


@pytest.mark.parametrize(
    ("link", "ok"),
    [("https://a.example.com/x?y=1", True), ("http://127.0.0.1:8501/", True), ("javascript:alert(1)", False),
     ("https://a b", False), ("https://a\"onclick=", False), ("ftp://a", False), (7, False),
     ("https://" + "a" * 3000, False)],
)  # fmt: skip
def test_only_http_addresses_are_links(link: object, ok: bool) -> None:
    assert is_link(link) is ok


def test_numbers_that_are_none_are_not_said() -> None:
    assert in_words({"a": float("nan"), "b": None, "c": [1, "x"]}) == "c 1; x"
