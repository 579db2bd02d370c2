"""The clock that all processes of a demo share."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import UsageError
from pipeline.settings import ClockSettings, load_settings

BEGAN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_a_second_of_the_machine_is_a_minute_since_the_clock_began() -> None:
    clock = ClockSettings(began=BEGAN, factor=60)
    assert clock.at(BEGAN + timedelta(seconds=90)) == BEGAN + timedelta(minutes=90)


def test_until_it_began_the_clock_is_the_machines() -> None:
    clock = ClockSettings(began=BEGAN, factor=60)
    assert clock.at(BEGAN) == BEGAN
    assert clock.at(BEGAN - timedelta(days=1)) == BEGAN - timedelta(days=1)


def test_without_a_factor_the_clock_is_the_machines_to_the_microsecond() -> None:
    at = BEGAN + timedelta(days=400, microseconds=123_457)
    assert ClockSettings().at(at) == at
    assert ClockSettings(began=BEGAN).at(at) == at


def test_what_a_machine_takes_is_as_many_times_longer_on_a_fast_clock() -> None:
    assert ClockSettings(began=BEGAN, factor=60).lasting(40) == timedelta(minutes=40)
    assert ClockSettings().lasting(40) == timedelta(seconds=40)


def test_a_clock_in_another_process_says_the_same() -> None:
    clock = ClockSettings(began=BEGAN, factor=60)
    at = BEGAN + timedelta(seconds=7)
    assert pickle.loads(pickle.dumps(clock)).at(at) == clock.at(at)


def test_a_fast_clock_without_a_beginning_is_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match="factor = 60 needs began"):
        load_settings(clock={"factor": 60})


def test_a_beginning_without_a_time_zone_is_refused() -> None:
    with pytest.raises(UsageError, match=r"clock\.began"):
        load_settings(clock={"began": "2026-11-24T12:00:00", "factor": 60})
