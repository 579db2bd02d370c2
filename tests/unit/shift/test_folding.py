from datetime import datetime, timedelta

import pytest

from pipeline.shift.folding import Completeness, Part, StreamClock, TickKey, completeness, floor, fold, targets
from tests.monitored import MINUTE, T0, sums

IDLE, LATENESS = 2 * MINUTE, timedelta(seconds=30)


def complete(*streams: StreamClock, now: datetime = T0) -> Completeness | None:
    return completeness(streams, now=now, idle=IDLE, lateness=LATENESS)


def test_the_watermark_is_the_slowest_active_partition() -> None:
    slow, quick = StreamClock(T0 - 5 * MINUTE, T0), StreamClock(T0, T0)
    assert complete(slow, quick) == Completeness(T0 - 5 * MINUTE, T0 - 6 * MINUTE)
    still = StreamClock(T0 - 5 * MINUTE, T0 - IDLE - timedelta(microseconds=1))
    assert complete(still, quick) == Completeness(T0, T0 - MINUTE)
    assert complete(StreamClock(T0 - 5 * MINUTE, T0 - IDLE), quick) == Completeness(T0 - 5 * MINUTE, T0 - 6 * MINUTE)


@pytest.mark.parametrize(("seconds", "minutes"), [(29, -1), (30, 0), (89, 0), (90, 1)])
def test_a_tick_is_due_when_the_watermark_has_passed_its_end_by_the_lateness(seconds: int, minutes: int) -> None:
    at = T0 + timedelta(seconds=seconds)
    found = complete(StreamClock(at, at), now=at)
    assert found is not None
    assert found.until == T0 + minutes * MINUTE


def test_when_all_partitions_are_idle_everything_that_was_seen_is_complete() -> None:
    old, newer = StreamClock(T0, T0), StreamClock(T0 + 1.5 * MINUTE, T0)
    assert complete(old, newer, now=T0 + 3 * MINUTE) == Completeness(T0 + 1.5 * MINUTE, T0 + 2 * MINUTE)


def test_without_an_image_nothing_is_due() -> None:
    assert complete() is None
    assert complete(StreamClock(None, T0)) is None


def test_a_clock_that_steps_back_makes_partitions_active_and_nothing_due_early() -> None:
    idle, quick = StreamClock(T0 - 50 * MINUTE, T0 - 50 * MINUTE), StreamClock(T0, T0)
    before, after = complete(idle, quick), complete(idle, quick, now=T0 - timedelta(hours=1))
    assert before is not None
    assert after is not None
    assert after.until < before.until


def test_intervals_begin_at_full_hours_and_at_midnight() -> None:
    at = T0 + timedelta(hours=7, minutes=43, seconds=21)
    assert [floor(at, minutes) - T0 for minutes in (1, 5, 60, 1440)] == [
        timedelta(minutes=463),
        timedelta(minutes=460),
        timedelta(hours=7),
        timedelta(0),
    ]


def test_a_part_goes_to_its_minute_and_to_those_coarser_ticks_that_are_made_already() -> None:
    part = Part(1, 7, 3, T0 + 2 * MINUTE, sums(1))
    minute = TickKey(T0 + 2 * MINUTE, 1, 7, 3)
    assert list(targets(part, evaluated_until=None, made_until={})) == [(minute, False)]
    assert list(targets(part, evaluated_until=T0 + 2 * MINUTE, made_until={5: T0})) == [(minute, False)]
    made = {5: T0 + 5 * MINUTE, 60: T0 + 60 * MINUTE, 1440: T0}
    assert list(targets(part, evaluated_until=T0 + 9 * MINUTE, made_until=made)) == [
        (minute, True),
        (TickKey(T0, 5, 7, 3), True),
        (TickKey(T0, 60, 7, 3), True),
    ]


def test_folding_in_portions_gives_the_same_bits() -> None:
    key = TickKey(T0, 1, 1, 0)
    addends = [(key, sums(seed, n=seed + 1)) for seed in range(9)]
    whole = fold(addends, {})
    known = fold(addends[:4], {})
    assert fold(addends[4:], known) == whole
    assert whole[key].n == sum(range(1, 10))
