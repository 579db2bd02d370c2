from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.links import View, build, checked, parse
from dashboard.windows import Window, to_ms

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def of(start: datetime, end: datetime) -> dict[str, str]:
    return {"from": str(to_ms(start)), "to": str(to_ms(end))}


def test_a_link_reproduces_its_view() -> None:
    view = View(Window(NOW - 2 * HOUR, NOW - HOUR), "a/b & c=<d>", 42)
    assert parse(build(view), now=NOW) == (view, ())


def test_a_link_without_anything_is_the_live_view() -> None:
    assert parse({}, now=NOW) == (View(), ())
    assert build(View()) == {}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"from": "abc", "to": "1"}, "“abc” is no time"),
        ({"from": "1795485600000", "to": "9" * 16}, "is no time"),
        ({"from": "-5", "to": "7"}, "“-5” is no time"),
        ({"from": "1"}, "only one end"),
        (of(NOW, NOW - HOUR), "ends before it begins"),
        (of(NOW - HOUR, NOW - HOUR), "ends before it begins"),
        (of(NOW + HOUR, NOW + 2 * HOUR), "begins in the future, at 2026-11-24 04:00 UTC"),
        ({"from": "a\x07\u202eb", "to": "1"}, "“a··b”"),
    ],
)
def test_a_window_that_is_none_is_said_and_the_live_one_shown(query: dict[str, str], said: str) -> None:
    view, (message,) = parse(query, now=NOW)
    assert view.window is None
    assert said in message


def test_a_window_that_reaches_into_the_future_is_shown_up_to_now() -> None:
    view, messages = parse(of(NOW - HOUR, NOW + HOUR), now=NOW)
    assert view.window == Window(NOW - HOUR, NOW)
    assert len(messages) == 1


def test_a_window_of_a_moment_becomes_a_minute() -> None:
    view, messages = parse(of(NOW - HOUR, NOW - HOUR + timedelta(milliseconds=5)), now=NOW)
    assert view.window == Window(NOW - HOUR, NOW - HOUR + timedelta(minutes=1))
    assert messages == ()


@pytest.mark.parametrize("given_", ["", "x", "-1", "1.5", "9" * 30, "१२"])
def test_an_incident_that_is_no_number_is_said(given_: str) -> None:
    view, messages = parse({"incident": given_}, now=NOW)
    assert view.incident is None
    assert len(messages) == 1


def test_what_this_deployment_does_not_have_is_left_out_and_said() -> None:
    view, messages = checked(View(None, "gone", 7), segments=["here"], incidents=[1])
    assert view == View()
    assert len(messages) == 2
    assert checked(View(None, "here", 1), segments=["here"], incidents=[1]) == (View(None, "here", 1), ())


@given(st.dictionaries(st.sampled_from(["from", "to", "segment", "incident"]), st.text(max_size=30)))
def test_whatever_stands_in_an_address_a_page_is_shown(query: dict[str, str]) -> None:
    view, messages = parse(query, now=NOW)
    assert all(len(message) < 250 for message in messages)
    assert view.window is None or view.window.start < view.window.end <= NOW + timedelta(minutes=1)
