import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dashboard.times import Clock
from dashboard.windows import MOST_POINTS, RANGES, Cut, Window, aligned, coarse, cut
from pipeline.shift.folding import LEVELS
from pipeline.storage.series import spans_of

END = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
LONG_AGO = {level: END - timedelta(days=730) for level in LEVELS}
DAY = timedelta(days=1)


def test_every_range_takes_the_coarsest_level_that_still_tells_lowest_from_highest() -> None:
    cuts = {name: cut(Window(END - length, END), LONG_AGO) for name, length in RANGES.items()}
    assert cuts == {
        "1 h": Cut(1, 1),
        "6 h": Cut(5, 1),
        "24 h": Cut(5, 1),
        "7 d": Cut(60, 5),
        "14 d": Cut(120, 60),
        "90 d": Cut(720, 60),
    }


def test_without_a_band_the_level_is_as_coarse_as_the_bucket() -> None:
    assert cut(Window(END - 7 * DAY, END), LONG_AGO, band=False) == Cut(60, 60)


def test_a_window_older_than_minutes_are_kept_is_read_from_what_is_left() -> None:
    kept = {1: END - 14 * DAY, 5: END - 90 * DAY, 60: END - 730 * DAY, 1440: END - 730 * DAY}
    old = Window(END - 40 * DAY, END - 39 * DAY)
    assert cut(old, kept) == Cut(5, 5)
    assert cut(Window(END - 200 * DAY, END - 199 * DAY), kept) == Cut(60, 60)


def test_a_deployment_that_began_today_is_drawn_in_minutes_though_its_day_began_at_midnight() -> None:
    began = END - timedelta(hours=5, minutes=53)  # 21:07 the day before
    kept = {1: began, 5: began - timedelta(minutes=2), 60: began - timedelta(minutes=7)}
    young = {**kept, 1440: began.replace(hour=0, minute=0)}
    assert cut(Window(END - DAY, END), young) == cut(Window(END - DAY, END), LONG_AGO) == Cut(5, 1)


def test_sums_of_a_window_come_from_the_coarsest_ticks_that_keep_its_ends_or_else_from_what_is_left() -> None:
    kept = {1: END - 14 * DAY, 5: END - 90 * DAY, 60: END - 730 * DAY, 1440: END - 730 * DAY}
    hour = timedelta(hours=1)
    assert coarse(Window(END - hour, END), kept) == 1
    assert coarse(Window(END - 6 * hour, END), kept) == 5
    assert coarse(Window(END - 90 * DAY, END), kept) == 1440
    assert coarse(Window(END - 40 * DAY, END - 40 * DAY + hour), kept) == 5
    assert coarse(Window(END - 200 * DAY, END - 200 * DAY + hour), kept) == 60
    assert coarse(Window(END - hour, END), {}) == 1


def test_buckets_of_few_images_grow_until_they_hold_some_but_never_below_24_points() -> None:
    day = Window(END - DAY, END)
    assert cut(day, LONG_AGO, rate=1000.0).width == 5
    assert cut(day, LONG_AGO, rate=20.0).width == 15
    assert cut(day, LONG_AGO, rate=0.01).width == 60


@given(
    st.integers(1, 60 * 24 * 365 * 60),
    st.integers(0, 60 * 24 * 900),
    st.dictionaries(st.sampled_from(LEVELS), st.integers(0, 900), max_size=4),
    st.floats(0, 1e6),
)
def test_no_chart_has_more_points_than_it_can_show(minutes: int, back: int, ages: dict[int, int], rate: float) -> None:
    end = END - timedelta(minutes=back)
    window = Window(end - timedelta(minutes=minutes), end)
    how = cut(window, {level: END - age * DAY for level, age in ages.items()}, rate=rate)
    assert how.width % how.level == 0
    assert minutes / how.width <= MOST_POINTS


@given(st.integers(1, 5000), st.sampled_from(LEVELS), st.lists(st.integers(-100, 6000), min_size=3, max_size=3))
def test_spans_cover_a_window_exactly_once(minutes: int, coarsest: int, made: list[int]) -> None:
    window = aligned(Window(END - timedelta(minutes=minutes), END), coarsest)
    until = {
        level: aligned(Window(window.start + timedelta(minutes=at), END), level).start
        for level, at in zip(LEVELS[1:], made, strict=True)
    }
    spans = spans_of(*window, coarsest, until)
    assert spans[0][1] == window.start
    assert spans[-1][2] == window.end
    assert all(left[2] == right[1] for left, right in itertools.pairwise(spans))
    assert all(minutes <= coarsest for minutes, _, _ in spans)


def test_the_end_of_a_window_has_its_date_where_that_is_not_the_starts() -> None:
    start = datetime(2026, 11, 25, 14, 31, tzinfo=UTC)
    assert Clock().span(start, start + timedelta(hours=24)) == "2026-11-25 14:31 UTC to 26 Nov 14:31"
    assert Clock().span(start, start + timedelta(hours=1)) == "2026-11-25 14:31 UTC to 15:31"
