from dataclasses import replace

import pytest

from dashboard.changes import Change, quantiles, what_changed
from pipeline.shift.rollup import RollUp, merge
from pipeline.storage.series import Totals
from tests.monitored import FINE_EDGES, sums


def alone(_segment: str | None) -> float:
    return 1.0


def named(found: list[Change]) -> list[tuple[str, str]]:
    return [(one.what, one.name) for one in found if one.kept]


def many(rollup: RollUp, times: int) -> RollUp:
    """The same distribution, of 2^times as many images."""
    for _ in range(times):
        rollup = merge(rollup, rollup)
    return rollup


def test_what_changed_comes_first_and_what_did_not_is_left_to_chance() -> None:
    before, now = sums(1, 4000, pooled=False), sums(2, 4000, pooled=False, flagged=0.3)
    segments = {"a": (Totals(2000, 100), Totals(2000, 1000)), "b": (Totals(2000, 100), Totals(2000, 104))}
    found = what_changed(before, now, segments, ("x", "y"), alone)
    assert named(found)[0] == ("unusual images", "a")
    assert set(named(found)) == {("unusual images", name) for name in ("a", "", "x", "y")}
    assert found[0].effect == 0.45
    assert (found[0].before, found[0].now) == ("5.0 %", "50 %")
    assert found[0].least is not None
    assert 0.35 < found[0].least < 0.45


def test_of_the_same_traffic_one_thing_in_twenty_is_listed_at_most() -> None:
    listed = 0
    for seed in range(40):
        before, now = sums(1000 + seed, 1500, pooled=False), sums(2000 + seed, 1500, pooled=False)
        listed += any(one.kept for one in what_changed(before, now, {}, ("x", "y"), alone))
    assert listed <= 2


def test_a_hundred_million_images_list_nothing_that_moved_by_less_than_one_in_a_hundred() -> None:
    before = many(sums(1, 4000, pooled=False), 14)
    now = replace(before, flags=before.flags + before.n // 120)
    assert before.n > 60e6
    assert named(what_changed(before, now, {}, ("x", "y"), alone)) == []
    more = replace(before, flags=before.flags + before.n // 80)
    assert named(what_changed(before, more, {}, ("x", "y"), alone)) == [("unusual images", "")]


def test_images_that_come_in_clumps_tell_less() -> None:
    before, now = sums(1, 4000, pooled=False), sums(2, 4000, pooled=False, flagged=0.09)
    found = [what_changed(before, now, {}, ("x", "y"), d) for d in (alone, lambda _: 30.0)]
    p = [next(one.p for one in some if (one.what, one.of) == ("unusual images", "everything")) for some in found]
    assert p[0] < 0.001
    assert p[1] > 0.5


def test_a_property_is_compared_as_a_whole() -> None:
    before = sums(1, 2000, pooled=False)
    moved = before.properties.copy()
    moved[0][12:] += moved[0][:4]
    moved[0][:4] = 0
    found = what_changed(before, replace(before, properties=moved), {}, ("x", "y"), alone)
    assert named(found) == [("brightness", "")]


def test_a_segment_that_came_is_a_change_of_traffic_and_has_no_share_of_before() -> None:
    before, now = sums(1, 4000, pooled=False), sums(2, 4000, pooled=False)
    segments = {"old": (Totals(4000, 80), Totals(3000, 60)), "new": (Totals(0, 0), Totals(1000, 20))}
    found = what_changed(before, now, segments, ("x", "y"), alone)
    assert set(named(found)) == {("share of traffic", "old"), ("share of traffic", "new")}
    assert ("unusual images", "new") not in [(one.what, one.name) for one in found]


def test_quantiles_have_intervals_that_hold_the_change_and_are_open_where_no_image_says_more() -> None:
    before, now = sums(1, 4000, pooled=False), sums(2, 4000, pooled=False)
    found = {one.share: one for one in quantiles(before, now, FINE_EDGES, 1.0)}
    assert found[0.5].before == pytest.approx(0.5, abs=0.03)
    for one in found.values():
        assert one.low is None or one.low < 0
        assert one.high is None or one.high > 0
    assert found[0.99].high is None
    wider = {one.share: one for one in quantiles(before, now, FINE_EDGES, 30.0)}[0.5]
    assert (wider.low or 0.0) < (found[0.5].low or 0.0) < 0
