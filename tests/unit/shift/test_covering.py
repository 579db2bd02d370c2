from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.shift.covering import cover
from pipeline.shift.folding import floor

T0 = datetime(2026, 11, 24, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MINUTES = st.integers(0, 5_000)


@given(MINUTES, MINUTES, st.lists(MINUTES, min_size=3, max_size=3))
def test_a_cover_holds_every_minute_once_and_only_ticks_that_are_made(a: int, b: int, made: list[int]) -> None:
    start, end = T0 + min(a, b) * MINUTE, T0 + max(a, b) * MINUTE
    limits = zip((5, 60, 1440), sorted(made, reverse=True), strict=True)
    until = {minutes: floor(T0 + at * MINUTE, minutes) for minutes, at in limits}
    stretches = cover(start, end, until)
    at = start
    for stretch in stretches:
        assert stretch.start == at
        assert floor(stretch.start, stretch.minutes) == stretch.start
        assert stretch.minutes == 1 or stretch.end <= until[stretch.minutes]
        at = stretch.end
    assert at == end


def test_a_month_takes_few_ticks() -> None:
    start, end = T0 + 7 * MINUTE, T0 + timedelta(days=30, minutes=3)
    made = dict.fromkeys((5, 60, 1440), end)
    stretches = cover(start, end, {minutes: floor(at, minutes) for minutes, at in made.items()})
    ticks = sum((stretch.end - stretch.start) // (stretch.minutes * MINUTE) for stretch in stretches)
    assert ticks == 3 + 10 + 23 + 29 + 3


def test_parts_of_minutes_are_whole_ones() -> None:
    (stretch,) = cover(T0 + timedelta(seconds=30), T0 + timedelta(seconds=90), {})
    assert (stretch.start, stretch.end) == (T0, T0 + 2 * MINUTE)
