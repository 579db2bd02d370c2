"""A baseline goes through the database bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import CoverageReference, Float64s
from pipeline.shift.baseline import Baseline, HistogramBets, Normal
from pipeline.shift.class_mix import ClassMix
from pipeline.shift.signals import RateBounds, class_bounds
from pipeline.shift.snapshot import fingerprint
from pipeline.storage.arrays import CorruptArrays, coverage_arrays, coverage_of, pack, unpack
from pipeline.storage.baselines import decode_baseline, encode_baseline

NUMBERS = st.floats(0, 1e9, allow_subnormal=True)


def arrays(*shape: int) -> st.SearchStrategy[Float64s]:
    return st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).normal(size=shape))


bets = st.builds(HistogramBets, arrays(30), arrays(30))
normals = st.builds(Normal, arrays(48), arrays(48), NUMBERS, st.none() | bets, st.tuples(NUMBERS, NUMBERS))
coverages = st.builds(
    CoverageReference,
    n=st.integers(1, 10**9),
    mean=arrays(3),
    covariance=arrays(3, 3),
    sizes=arrays(2),
    t2=arrays(2),
    low=arrays(2),
    high=arrays(2),
    spread=arrays(2),
    q=NUMBERS,
    from_traffic=st.booleans(),
)
mixes = st.lists(st.integers(1, 10**6), min_size=2, max_size=60).map(
    lambda counts: ClassMix(np.array(counts), 1.5, class_bounds(np.array(counts)))
)
baselines = st.builds(
    Baseline,
    days=st.integers(0, 400),
    pooled=normals,
    segments=st.dictionaries(st.text(max_size=5), normals, max_size=3),
    rates=st.lists(st.none() | st.builds(RateBounds, NUMBERS, NUMBERS, NUMBERS), min_size=168, max_size=168).map(tuple),
    classes=st.none() | mixes,
    coverage=st.none() | coverages,
)


@settings(max_examples=25, deadline=None)
@given(baselines)
def test_every_baseline_comes_back_bit_for_bit(baseline: Baseline) -> None:
    content = encode_baseline(baseline)
    found = decode_baseline(content)
    assert fingerprint(found) == fingerprint(baseline)
    assert list(found.segments) == list(baseline.segments)
    assert encode_baseline(found) == content


@settings(max_examples=10, deadline=None)
@given(coverages)
def test_coverage_beside_other_arrays_comes_back_bit_for_bit(coverage: CoverageReference) -> None:
    found = unpack(pack({"scores": np.arange(3), **coverage_arrays(coverage)}))
    assert fingerprint(coverage_of(found)) == fingerprint(coverage)
    assert coverage_of(unpack(pack({"scores": np.arange(3)}))) is None


def test_other_bytes_are_refused_with_the_cure() -> None:
    content = pack({"format": 2, "days": 3})
    for damaged in (b"", b"PK", content[: len(content) // 2]):
        with pytest.raises(CorruptArrays, match="restore the row from a backup"):
            decode_baseline(damaged)
    with pytest.raises(CorruptArrays, match="a baseline of format 1, this release reads 2: accept the window again"):
        decode_baseline(pack({"format": 1}))
    with pytest.raises(CorruptArrays, match="restore the row from a backup"):
        decode_baseline(pack({"objects": np.array([None])}))
