from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.shift.histogram import fine_edges, rank_edges
from pipeline.shift.rollup import CorruptRollUp, RollUp, decode, encode, merge, summarise_groups, without

SORTED = np.sort(np.random.default_rng(0).normal(-14, 5, 2000))
fixed = settings(derandomize=True, deadline=None, max_examples=50)


def summary(
    seed: int, n: int, groups: int = 1, d: int | None = 3, classes: int = 10, *, supported: bool = True
) -> list[RollUp]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(-13, 6, n)
    return summarise_groups(
        rng.integers(0, groups, n),
        groups,
        scores=scores,
        energies=scores - 1,
        flags=scores > -6,
        class_index=rng.integers(0, classes, n),
        properties=np.column_stack([rng.random((n, 4)), rng.integers(64, 10**6, n)]),
        repeats=rng.random(n) < 0.1,
        late_clocks=rng.random(n) < 0.1,
        projected=None if d is None else rng.normal(size=(n, d)),
        edges=rank_edges(SORTED),
        fine_edges=fine_edges(SORTED),
        n_classes=classes,
        support=rng.random(n) if supported else None,
    )


def assert_close(left: RollUp, right: RollUp) -> None:
    for name in ("n", "flags", "repeats", "late_clocks", "z_n", "support_n"):
        assert getattr(left, name) == getattr(right, name)
    for name in ("class_counts", "class_flags", "histogram", "fine_histogram", "properties"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    for name in ("score_sum", "score_squares", "energy_sum", "z_sum", "z_outer", "support_sum"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol=1e-9, atol=1e-9)


@fixed
@given(st.integers(0, 10**6), st.integers(1, 400), st.sampled_from([None, 1, 16]), st.booleans())
def test_decoding_an_encoded_roll_up_gives_it_back(seed: int, n: int, d: int | None, supported: bool) -> None:
    (rollup,) = summary(seed, n, d=d, supported=supported)
    assert decode(encode(rollup)) == rollup


@fixed
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_merging_is_associative_and_commutative(seed: int, a: int, b: int, c: int) -> None:
    (x,), (y,), (z,) = summary(seed, a), summary(seed + 1, b), summary(seed + 2, c)
    assert_close(merge(merge(x, y), z), merge(x, merge(y, z)))
    assert_close(merge(x, y), merge(y, x))


@fixed
@given(st.integers(0, 10**6), st.integers(10, 300))
def test_groups_merge_to_the_summary_of_the_whole(seed: int, n: int) -> None:
    whole = summary(seed, n, groups=1)[0]
    parts = summary(seed, n, groups=1)
    assert_close(whole, parts[0])
    groups = [group for group in summary(seed, n, groups=5) if group.n]
    total = groups[0]
    for group in groups[1:]:
        total = merge(total, group)
    assert total.n == n
    assert total.histogram.sum() == total.fine_histogram.sum() == total.class_counts.sum() == n


@fixed
@given(st.binary(max_size=300), st.integers(0, 200))
def test_other_bytes_are_refused_and_nothing_worse(noise: bytes, cut: int) -> None:
    content = encode(summary(1, 5)[0])
    for damaged in (noise, b"\x01" + noise, content[:cut], content + b"\x00"):
        if damaged != content:
            with pytest.raises(CorruptRollUp):
                decode(damaged)


def test_roll_ups_of_different_references_do_not_merge() -> None:
    with pytest.raises(CorruptRollUp, match="different references"):
        merge(summary(0, 5, classes=10)[0], summary(0, 5, classes=7)[0])


def test_parts_of_fifty_segments_take_less_than_seventy_bytes_an_image() -> None:
    parts = summary(7, 256, groups=50, d=None) + summary(7, 256, d=16)
    assert sum(len(encode(part)) for part in parts) / 256 < 70


#: Of format 2, which had no support: two images of two classes, one flagged, scores 0.25 and 0.75, z = (1, 2), (3, 4).
FORMAT_2 = bytes.fromhex(
    "02020100000202000000000000f03f000000000000e43f000000000000f03f0c000101010201050109016f012b017202"
    "18020f020c020602020000000000001040000000000000184000000000000024400000000000002c400000000000003440"
)


def test_parts_of_the_format_before_are_read_and_merge_with_new_ones() -> None:
    old = decode(FORMAT_2)
    (new,) = summary(3, 5, d=2, classes=2)
    both = merge(old, new)
    assert (old.n, old.flags, old.support_n, old.support_sum) == (2, 1, 0, 0.0)
    assert (both.n, both.support_n, both.support_sum) == (7, 5, new.support_sum)
    assert decode(encode(both)) == both


def test_p_precision_of_segments_and_of_all_is_their_mean_support() -> None:
    rng = np.random.default_rng(4)
    support, groups = rng.random(60), rng.integers(0, 4, 60)
    parts = summarise_groups(
        groups,
        4,
        scores=np.zeros(60),
        energies=np.zeros(60),
        flags=np.zeros(60, np.bool_),
        class_index=np.zeros(60, np.int64),
        properties=np.zeros((60, 5)),
        repeats=np.zeros(60, np.bool_),
        late_clocks=np.zeros(60, np.bool_),
        projected=None,
        edges=rank_edges(SORTED),
        fine_edges=fine_edges(SORTED),
        n_classes=1,
        support=support,
    )
    for g, part in enumerate(parts):
        assert part.support_sum / part.support_n == pytest.approx(support[groups == g].mean())
    total = reduce(merge, parts)
    assert total.support_n == 60
    assert total.support_sum / 60 == pytest.approx(support.mean())


def test_what_is_without_a_part_is_the_other_part_but_for_its_features() -> None:
    part, other = summary(1, 40, d=None)[0], summary(2, 30)[0]
    rest = without(merge(part, other), part)
    assert (rest.z_n, rest.z_sum, rest.z_outer) == (0, None, None)
    assert_close(replace(rest, z_n=30, z_sum=other.z_sum, z_outer=other.z_outer), other)
