"""Classes and features of accepted traffic: what differs by night every night is normal."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.records import CoverageReference, Float64s, Ints
from pipeline.shift.baseline import Baseline, Normal
from pipeline.shift.class_mix import ClassHours, ClassMix, class_mix
from pipeline.shift.coverage import BLOCK, BLOCKS, block_flags, block_statistics, limits, symmetric, traffic_coverage
from pipeline.shift.detector import Detector
from pipeline.shift.null import Null
from pipeline.shift.signals import class_bounds
from pipeline.shift.tick import Counts, Tick, to_us

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
DAY = 1440


def by_minute(days: int, seed: int) -> Ints:
    """(T, 3) images of three classes, 60 a minute: the second has 10 % by day and 30 % by night."""
    night = np.arange(days * DAY) % DAY < DAY // 3
    second = np.where(night, 0.3, 0.1)
    shares = np.column_stack([0.88 - second, second, np.full(len(night), 0.12)])
    counts: Ints = np.random.default_rng(seed).multinomial(60, shares)
    return counts


def mix_of(counts: Ints) -> ClassMix:
    starts = to_us(MONDAY) + 60_000_000 * np.arange(len(counts))
    hourly = counts.reshape(-1, 60, counts.shape[1]).sum(axis=1)
    hours = ClassHours(starts[::60], hourly)
    found = class_mix(hours, starts, counts.sum(axis=1).astype(float), counts[:, hours.frequent].astype(float))
    assert found is not None
    return found


def raised(mix: ClassMix, counts: Ints) -> list[str]:
    """What the detector says of classes, and why."""
    known = Baseline(days=4, pooled=Normal(np.zeros(48), np.ones(48), 1.0, None), segments={}, classes=mix)
    detector = Detector(Null.from_reference_numbers(2000, 0.05).with_baseline(known))
    found = []
    for minute, of_classes in enumerate(counts):
        tick = Tick(MONDAY + timedelta(minutes=minute), 1, {"a": Counts(60, 3, None, of_classes)})
        changed = (one for one in detector.step(tick) if one.stream == "classes" and one.transition is not None)
        found += [one.transition.leading for one in changed if one.transition is not None and one.state == "shift"]
    return found


def test_a_class_mix_of_every_night_raises_nothing_and_a_new_one_does() -> None:
    counts = by_minute(4, seed=1)
    mix = mix_of(counts)
    assert 1 <= mix.d < 1.3
    assert mix.bounds.low[1] < 0.1
    assert 0.3 < mix.bounds.high[1] < 0.34
    assert raised(mix, by_minute(1, seed=2)) == []
    constant = ClassMix(mix.counts, mix.d, class_bounds(mix.counts))
    assert "class 1 ×2" in raised(constant, by_minute(1, seed=2))
    swapped = by_minute(1, seed=3)[:, [0, 2, 1]][: DAY // 3]
    assert raised(mix, swapped)[0].startswith("class 2 ")


def test_the_rest_of_many_classes_wanders_as_one() -> None:
    hours = np.random.default_rng(4).multinomial(5000, np.full(80, 1 / 80), size=50).astype(float)
    counts = hours.sum(axis=0).astype(np.int64)
    fixed, wide = class_bounds(counts), class_bounds(counts, hours)
    assert wide.rest
    assert len(wide.high) == 51
    assert (wide.high >= fixed.high).all()
    assert (wide.low <= fixed.low).all()
    assert wide.low[-1] < 30 / 80 < wide.high[-1]


def blocks(count: int, seed: int, night: float = 0.0) -> tuple[Float64s, Float64s, Float64s, Ints]:
    """Blocks of 240 images with two features; those of the hours 0 to 7 lie `night` further."""
    rng = np.random.default_rng(seed)
    hours = np.arange(count) // 15 % 24
    z = rng.normal(size=(count, 240, 2)) + np.where(hours < 8, night, 0.0)[:, None, None]
    products = np.einsum("bij,bik->bjk", z, z)
    return np.full(count, 240.0), z.sum(axis=1), products[:, [0, 0, 1], [0, 1, 1]], hours


def flagged(reference: CoverageReference, given: tuple[Float64s, Float64s, Float64s, Ints]) -> Float64s:
    """(B, 3)."""
    n, z_sum, z_outer, _ = given
    limit = limits(n[0], reference)
    pairs = zip(z_sum, z_outer, strict=True)
    statistics = [block_statistics(n[0], s, symmetric(o), reference) for s, o in pairs]
    return np.stack([block_flags(one, limit) for one in statistics])


def test_blocks_of_accepted_nights_are_normal_by_night_as_by_day() -> None:
    reference = traffic_coverage(*blocks(1080, 1, night=0.2), 1.0)
    assert reference is not None
    assert reference.from_traffic
    assert reference.q == pytest.approx(0.015, abs=0.001)
    assert reference.sizes.tolist() == [240]
    fresh = blocks(1080, 2, night=0.2)
    of_hours = np.stack([flagged(reference, fresh)[fresh[3] == hour].mean(axis=0) for hour in range(24)])
    assert of_hours.max() < 0.05
    assert flagged(reference, blocks(100, 3, night=0.8))[:, 0].mean() > 0.9


def test_too_few_blocks_and_features_without_spread_make_no_reference() -> None:
    assert traffic_coverage(*blocks(BLOCKS - 1, 1), 1.0) is None
    n, z_sum, z_outer, hours = blocks(BLOCKS, 1)
    flat = traffic_coverage(n, np.column_stack([z_sum[:, 0]] * 2), z_outer[:, [0, 0, 0]], hours, 1.0)
    assert flat is None
    assert n[0] >= BLOCK
