from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.links import View, build, checked, other_window, parse
from dashboard.windows import Window, to_ms

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def of(start: datetime, end: datetime) -> dict[str, str]:
    return {"from": str(to_ms(start)), "to": str(to_ms(end))}


def test_a_link_reproduces_its_view() -> None:
    other = Window(NOW - 9 * HOUR, NOW - 8 * HOUR)
    view = View(Window(NOW - 2 * HOUR, NOW - HOUR), "a/b & c=<d>", 42, other, ("x,y", "z"))
    assert parse(build(view), now=NOW) == (view, ())
    assert parse(build(View(against="week")), now=NOW) == (View(against="week"), ())


@pytest.mark.parametrize(
    ("against", "start"),
    [("before", NOW - 2 * HOUR), ("day", NOW - 25 * HOUR), ("week", NOW - 169 * HOUR)],
)
def test_as_much_earlier_is_a_window_of_the_same_length(
    against: Literal["before", "day", "week"], start: datetime
) -> None:
    assert other_window(Window(NOW - HOUR, NOW), against) == Window(start, start + HOUR)


@pytest.mark.parametrize(
    ("against", "said"),
    [
        ("", "against=“” is no window"),
        ("yesterday", "against=“yesterday” is no window"),
        ("5-", "is no window"),
        ("5-4-3", "is no window"),
        (f"{to_ms(NOW)}-{to_ms(NOW - HOUR)}", "to compare with ends before it begins"),
        (f"{to_ms(NOW + HOUR)}-{to_ms(NOW + 2 * HOUR)}", "to compare with begins in the future"),
    ],
)
def test_another_window_that_is_none_is_said_and_the_one_before_compared(against: str, said: str) -> None:
    view, (message,) = parse({"against": against}, now=NOW)
    assert view.against == "before"
    assert said in message


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


@pytest.mark.parametrize(
    ("view", "left_out", "said"),
    [
        (View(without=("a", "gone", "lost")), ("a",), "no segment “gone” and 1 more here that could be left out"),
        (View(segment="a", without=("a", "b")), ("b",), "“a” is in view, so it is not left out"),
        (View(without=("a", "b", "c")), (), "Every segment would be left out, so none is"),
    ],
)
def test_what_cannot_be_left_out_is_said(view: View, left_out: tuple[str, ...], said: str) -> None:
    shown, (message,) = checked(view, segments=["a", "b", "c"], incidents=[])
    assert shown.without == left_out
    assert said in message


@given(
    st.dictionaries(st.sampled_from(["from", "to", "segment", "without", "incident", "against"]), st.text(max_size=30))
)
def test_whatever_stands_in_an_address_a_page_is_shown(query: dict[str, str]) -> None:
    view, messages = parse(query, now=NOW)
    assert all(len(message) < 250 for message in messages)
    assert view.window is None or view.window.start < view.window.end <= NOW + timedelta(minutes=1)
