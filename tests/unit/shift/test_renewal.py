"""A reference from stored scores promises what so many independent images would."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RefusedError
from pipeline.records import Card, Float64s, Reference
from pipeline.shift.histogram import rank_edges
from pipeline.shift.renewal import effective_size, renewed, thinned
from pipeline.shift.threshold import conformal_rank, flag_rate_bounds
from tests.watched_days import calibrated

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CARD = Card(100, 0.05, None, (), "energy", "It sees blur.")


def made(scores: Float64s, d: float, old: Reference | None = None) -> Reference:
    return renewed(
        old or replace(calibrated(), id=7),
        scores,
        np.array([3 * len(scores) // 4, len(scores) // 4]),
        d,
        target_fpr=0.05,
        version=2,
        images=(),
        now=NOW,
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400))
def test_thinned_scores_are_order_statistics_evenly_spaced(total: int, n: int) -> None:
    n = min(n, total)
    kept = thinned(np.random.default_rng(total).permutation(np.arange(1.0, total + 1)), n)
    assert len(set(kept.tolist())) == n
    share = np.arange(1, n + 1) / (n + 1)
    assert (kept / (total + 1) >= share - 1e-9).all()
    assert (kept / (total + 1) - share < 1 / (total + 1) + 1e-9).all()


def test_as_many_scores_are_promised_as_are_independent() -> None:
    scores = np.random.default_rng(1).normal(size=20_000)
    found = made(scores, d=10.0)
    rank = conformal_rank(2000, 0.05)
    assert (found.n, found.rank) == (2000, rank)
    assert (found.p0_low, found.p0_high) == flag_rate_bounds(2000, rank)
    assert np.mean(scores > found.threshold) == pytest.approx(0.05, abs=0.001)
    assert found.edges.tolist() == rank_edges(found.scores).tolist()
    assert found.class_counts.tolist() == [1500, 500]
    assert (found.name, found.version, found.id, found.representative) == ("m-r2", 2, None, True)
    assert effective_size(10**9, 1.0) == 100_000


def test_without_dispersion_the_scores_are_kept_as_they_are() -> None:
    scores = np.random.default_rng(2).normal(size=500)
    assert made(scores, d=1.0).scores.tolist() == np.sort(scores).tolist()


def test_the_card_says_which_threshold_it_was_measured_with() -> None:
    scores = np.random.default_rng(3).normal(size=500)
    first = made(scores, 1.0, replace(calibrated(), card=CARD))
    assert first.card is not None
    assert first.card.because == "It sees blur. Measured when m-r1 was made, with its threshold."
    assert made(scores, 1.0, replace(calibrated(), card=None)).card is None


def test_too_few_independent_scores_are_refused() -> None:
    with pytest.raises(RefusedError, match="10 images are too few"):
        made(np.arange(100.0), d=10.0)
