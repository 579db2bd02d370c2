from dataclasses import replace

import numpy as np

from dashboard.changes import what_changed
from pipeline.storage.series import Totals
from tests.monitored import sums


def test_what_changed_comes_first_and_what_did_not_is_left_to_chance() -> None:
    before, now = sums(1, 4000, pooled=False), sums(2, 4000, pooled=False, flagged=0.3)
    segments = {"a": (Totals(2000, 100), Totals(2000, 1000)), "b": (Totals(2000, 100), Totals(2000, 104))}
    found = what_changed(before, now, segments, ("x", "y"), 1.0)
    assert [one.name for one in found if one.kept] == ["a", "all traffic"]
    assert found[0].effect == 0.45
    assert (found[0].before, found[0].now) == ("5.0 %", "50 %")


def test_of_the_same_traffic_one_thing_in_twenty_is_listed_at_most() -> None:
    listed = 0
    for seed in range(40):
        before, now = sums(1000 + seed, 1500, pooled=False), sums(2000 + seed, 1500, pooled=False)
        listed += any(one.kept for one in what_changed(before, now, {}, ("x", "y"), 1.0))
    assert listed <= 6


def test_images_that_come_in_clumps_tell_less() -> None:
    before, now = sums(1, 4000, pooled=False), sums(2, 4000, pooled=False, flagged=0.06)
    alone, clumped = (what_changed(before, now, {}, ("x", "y"), d) for d in (1.0, 30.0))
    name = "all traffic"
    p = [next(one.p for one in found if one.name == name) for found in (alone, clumped)]
    assert p[0] < p[1]


def test_a_property_is_compared_as_a_whole() -> None:
    before = sums(1, 2000, pooled=False)
    moved = before.properties.copy()
    moved[0] = np.roll(moved[0], 3)
    found = what_changed(before, replace(before, properties=moved), {}, ("x", "y"), 1.0)
    assert [one.name for one in found if one.kept] == ["brightness"]
