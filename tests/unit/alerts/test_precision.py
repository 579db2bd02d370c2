"""Whether alerts were right, by what people said of images."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.precision import VERDICTS, Judged, Raised, Verdict, counts, precision
from tests.faults.scored import NOW

HOUR = timedelta(hours=1)


def image(verdict: Verdict, *, hours: float = 0.5, segment: str = "north") -> Judged:
    return Judged(segment, NOW + hours * HOUR, verdict)


def incident(hour: int, *segments: str) -> Raised:
    return Raised.of(NOW + hour * HOUR, NOW + (hour + 1) * HOUR, segments)


def test_an_incident_was_real_where_most_of_its_images_are_and_a_tie_or_none_says_nothing() -> None:
    judged = [
        *[image("shift"), image("shift"), image("noise")],
        *[image("noise", hours=1.5), image("bad_input", hours=1.5), image("shift", hours=1.5)],
        *[image("shift", hours=2.5), image("noise", hours=2.5)],
    ]
    found = precision([incident(hour, "", "north") for hour in range(5)], judged)
    assert found.incidents[:2] == (1, 2)
    assert found.images[:2] == (4, 8)
    assert found.images[2:] == pytest.approx((0.1570, 0.8430), abs=1e-4)


def test_what_nobody_judged_may_be_anything() -> None:
    assert precision([incident(0)], []).incidents == (0, 0, 0.0, 1.0)


def test_an_image_belongs_to_the_half_open_time_and_the_segments_of_its_incident() -> None:
    own = incident(0, "north", "")
    assert own.is_about(image("shift", hours=0))
    assert not own.is_about(image("shift", hours=1))
    assert not own.is_about(image("shift", segment="south"))
    assert incident(0, "").is_about(image("shift", segment="south"))
    assert Raised.of(NOW, None, ()).is_about(image("shift", hours=1_000))


@given(st.lists(st.tuples(st.sampled_from(VERDICTS), st.floats(0, 9)), max_size=30))
def test_shares_lie_in_their_intervals_and_count_every_image_once(drawn: list[tuple[Verdict, float]]) -> None:
    judged = [image(verdict, hours=hours) for verdict, hours in drawn]
    found = precision([incident(hour) for hour in range(10)], judged)
    assert sum(counts(judged).values()) == found.images.n == len(judged)
    for share in (found.images, found.incidents):
        assert 0 <= share.low <= share.high <= 1
        assert not share.n or share.low <= share.k / share.n <= share.high
