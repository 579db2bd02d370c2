import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.delivery import (
    GIVE_UP_AFTER,
    GiveUp,
    TryAgain,
    Undelivered,
    after_failure,
    asked_wait,
    check_answer,
)

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def longest(low: float, high: float) -> float:
    return high


def pause(attempts: int, failure: Undelivered | None = None) -> float:
    """Seconds until the next attempt, at the most."""
    step = after_failure(failure or Undelivered("x"), attempts=attempts, created_at=NOW, now=NOW, uniform=longest)
    assert isinstance(step, TryAgain)
    return (step.at - NOW).total_seconds()


def test_pauses_double_from_five_seconds_to_a_quarter_of_an_hour() -> None:
    assert [pause(attempt) for attempt in range(1, 11)] == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert pause(10_000) == 900


@given(attempts=st.integers(1, 200), seed=st.integers(0, 100))
def test_chance_draws_from_the_whole_interval(attempts: int, seed: int) -> None:
    uniform = random.Random(seed).uniform
    step = after_failure(Undelivered("x"), attempts=attempts, created_at=NOW, now=NOW, uniform=uniform)
    assert isinstance(step, TryAgain)
    assert 1 <= (step.at - NOW).total_seconds() <= pause(attempts)


def test_what_a_receiver_asks_for_is_kept_unless_the_own_pause_is_longer() -> None:
    assert pause(1, Undelivered("x", wait=timedelta(minutes=2))) == 120
    assert pause(8, Undelivered("x", wait=SECOND)) == 640


def test_the_last_attempt_is_at_the_end_of_a_day_and_then_it_is_given_up() -> None:
    almost = NOW + GIVE_UP_AFTER - SECOND
    step = after_failure(Undelivered("x"), attempts=99, created_at=NOW, now=almost, uniform=longest)
    assert step == TryAgain(NOW + timedelta(hours=24))
    step = after_failure(Undelivered("x"), attempts=100, created_at=NOW, now=almost + SECOND, uniform=longest)
    assert step == GiveUp()
    step = after_failure(Undelivered("x", final=True), attempts=1, created_at=NOW, now=NOW, uniform=longest)
    assert step == GiveUp()


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_success_is_none_of_our_business(status: int) -> None:
    check_answer(status, "", retry_after=None, now=NOW)


@pytest.mark.parametrize(
    ("status", "final"),
    [
        (408, False),
        (425, False),
        (429, False),
        (500, False),
        (503, False),
        (599, False),
        (300, True),
        (301, True),
        (307, True),
        (400, True),
        (401, True),
        (404, True),
        (410, True),
        (422, True),
        (451, True),
    ],
)
def test_statuses_that_pass_are_tried_again_and_others_are_not(status: int, final: bool) -> None:
    with pytest.raises(Undelivered, match=f"answered {status}") as raised:
        check_answer(status, "why", retry_after="30", now=NOW)
    assert raised.value.final is final
    assert raised.value.wait == (None if final else 30 * SECOND)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (None, None),
        ("0", timedelta(0)),
        (" 120 ", 120 * SECOND),
        ("Tue, 24 Nov 2026 03:01:30 GMT", 90 * SECOND),
        ("Tue, 24 Nov 2026 02:00:00 GMT", timedelta(0)),
        ("99999999999999999999", timedelta(hours=24)),
        ("Tue, 24 Nov 2099 02:00:00 GMT", timedelta(hours=24)),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Tue, 99 Nov 2026 03:01:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_rubbish_is_nothing(header: str | None, wait: timedelta | None) -> None:
    assert asked_wait(header, NOW) == wait


@given(st.text(max_size=40))
def test_no_retry_after_breaks_the_rule(header: str) -> None:
    wait = asked_wait(header, NOW)
    assert wait is None or timedelta(0) <= wait <= timedelta(hours=24)
