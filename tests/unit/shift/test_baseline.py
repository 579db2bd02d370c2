"""What accepted traffic teaches the detector."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.errors import RefusedError
from pipeline.records import Float64s
from pipeline.shift.baseline import Accepted, Baseline, Normal, baseline, hourly_rates
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.coverage import BLOCK, bootstrap, limits
from pipeline.shift.detector import Detector
from pipeline.shift.histogram import BINS, expected_shares
from pipeline.shift.hours import hour_bin, hour_of, hour_of_week
from pipeline.shift.null import Null
from pipeline.shift.signals import histogram_increments, histogram_library, rate_bounds
from pipeline.shift.silence import silence
from pipeline.shift.tick import Counts, Tick, to_us

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
SHARES = expected_shares(2000)
NULL = Null.from_reference_numbers(2000, 0.05)


def shares_at(rate: Float64s) -> Float64s:
    """(T, 18): the reference's shares, with `rate` of the images above the threshold."""
    flagged = np.arange(BINS) >= 14
    top, rest = SHARES[flagged].sum(), SHARES[~flagged].sum()
    shares: Float64s = np.where(flagged, SHARES * rate[:, None] / top, SHARES * (1 - rate[:, None]) / rest)
    return shares


def accepted(rate: Float64s, images: float = 60, seed: int = 0, burst: int = 1) -> Accepted:
    rng = np.random.default_rng(seed)
    histograms = burst * rng.poisson(images / burst * shares_at(rate)).astype(float)
    starts = to_us(MONDAY) + 60_000_000 * np.arange(len(rate))
    return Accepted(starts, histograms.sum(axis=1), histograms[:, 14:].sum(axis=1), histograms)


def night_and_day(days: int) -> Float64s:
    return 0.055 + 0.025 * np.sin(2 * np.pi * np.arange(days * 1440) / 1440)


def made(ticks: Accepted, **segments: Accepted) -> Baseline:
    return baseline(ticks, segments.items(), n_cal=2000, minutes=1)


def test_hours_are_those_of_the_week_in_utc() -> None:
    times = [MONDAY + timedelta(hours=h) for h in (0, 23, 24 * 4 + 13, 24 * 5 + 13, 24 * 6, 24 * 7)]
    us = np.array([to_us(at) for at in times])
    assert hour_of_week(us).tolist() == [0, 23, 109, 133, 144, 0]
    assert hour_bin(us).tolist() == [0, 23, 13, 37, 24, 0]
    assert [hour_of(at) for at in times] == list(zip(hour_of_week(us).tolist(), hour_bin(us).tolist(), strict=True))


def test_even_traffic_needs_no_more_than_the_reference() -> None:
    found = made(accepted(np.full(14 * 1440, 0.05)))
    assert found.days == 14
    assert 1 <= found.pooled.d < 1.25
    assert found.pooled.high.max() < 0.062
    assert found.pooled.bets is not None
    assert np.median(found.pooled.bets.penalty / histogram_library(2000).penalty) == 1
    assert (found.pooled.bets.divisor == found.pooled.d).all()


def test_bursts_of_ten_count_as_one_image_each() -> None:
    assert made(accepted(np.full(14 * 1440, 0.05), burst=10)).pooled.d == pytest.approx(10.5, abs=1)


def test_bets_on_rare_scores_are_divided_by_more_where_scores_come_in_runs() -> None:
    """Runs of a geometric length, mean ten: E[e^(x/D)] is infinite for log(140)/D > -log(.9), D below 47."""
    rng = np.random.default_rng(0)
    minutes = 14 * 1440
    fresh = rng.random(minutes * 60) < 0.1
    scores = rng.choice(BINS, size=len(fresh), p=SHARES)[
        np.maximum.accumulate(np.where(fresh, np.arange(len(fresh)), 0))
    ]
    histograms = np.bincount(np.arange(len(fresh)) // 60 * BINS + scores, minlength=minutes * BINS).reshape(-1, BINS)
    n, k = histograms.sum(axis=1).astype(float), histograms[:, 14:].sum(axis=1).astype(float)
    starts = to_us(MONDAY) + 60_000_000 * np.arange(minutes)
    found = made(Accepted(starts, n, k, histograms.astype(float))).pooled
    assert found.d == pytest.approx(21, abs=2)  # (1 + .9)/(1 - .9) = 19, and its upper bound
    assert found.bets is not None
    assert found.bets.divisor.max() > 1.25 * found.d
    assert found.bets.divisor.min() == found.d
    library = histogram_library(2000)
    x = histogram_increments(histograms.astype(float), found.bets.divisor[None], library, found.bets.penalty)
    assert np.exp(x).mean(axis=0).max() < 1 + 1e-6


def test_the_null_follows_night_and_day_and_neither_raises_anything() -> None:
    rates = night_and_day(14)
    found = made(accepted(rates), a=accepted(rates))
    of_hours = rates[: 24 * 60].reshape(24, 60).mean(axis=1)
    assert (found.pooled.high[:24] > of_hours).all()
    assert (found.pooled.low[:24] < of_hours).all()
    assert found.pooled.high.max() < 0.09
    null = NULL.with_baseline(found)
    detector = Detector(null)
    alone = Detector(NULL)
    fresh = accepted(night_and_day(1), seed=1)
    raised: dict[str, set[str]] = {"accepted": set(), "alone": set()}
    for t in range(1440):
        part = Counts(fresh.n[t], fresh.k[t], fresh.histograms[t])
        tick = Tick(MONDAY + timedelta(minutes=t), 1, {"a": part})
        for name, one in (("accepted", detector), ("alone", alone)):
            raised[name] |= {verdict.stream for verdict in one.step(tick) if verdict.transition is not None}
    assert raised == {"accepted": set(), "alone": {"pooled"}}
    assert found.pooled.bets is not None
    assert (found.pooled.bets.penalty / histogram_library(2000).penalty).max() > 2


def test_a_segment_with_few_images_borrows_from_its_neighbours_and_then_from_all() -> None:
    rate = np.full(7 * 1440, 0.05)
    found = made(accepted(rate), thin=accepted(rate, images=2, seed=1), bare=accepted(rate, images=0.05, seed=2))
    assert found.segments["thin"].high[3] < 0.09
    assert found.segments["bare"].high[3] == pytest.approx(found.pooled.high[3], abs=0.02)
    premise = NULL.with_baseline(found).premise(MONDAY, ["thin", "unheard of"])
    assert premise.q[1] == NULL.p0_high
    assert premise.d[1] == found.pooled.d


def test_a_baseline_that_reaches_the_warning_level_is_refused_by_name() -> None:
    found = made(accepted(np.full(3 * 1440, 0.05)), roof=accepted(np.full(3 * 1440, 0.12)))
    with pytest.raises(RefusedError, match="of segment 'roof' flagged, which reaches the warning level"):
        NULL.with_baseline(found).check(Thresholds())


def test_alerts_are_provisional_until_three_days_are_accepted() -> None:
    rate = np.full(3 * 1440, 0.05)
    assert NULL.provisional
    assert NULL.with_baseline(made(accepted(rate[: 2 * 1440]))).provisional
    assert not NULL.with_baseline(made(accepted(rate))).provisional


def test_rates_are_by_hour_of_week_from_four_weeks_on_and_unknown_where_nothing_was_accepted() -> None:
    hours = to_us(MONDAY) + 3_600_000_000 * np.arange(28 * 24)
    n = np.where(np.arange(28 * 24) % 168 == 5, 100.0, 3600.0)
    weekly = hourly_rates(hours, n, 60)
    assert weekly[5] == rate_bounds(400, 240, 1.0)
    assert weekly[6] == rate_bounds(4 * 3600, 240, 1.0)
    daily = hourly_rates(hours[: 24 * 7], n[: 24 * 7], 60)
    assert daily[5] == daily[29]
    assert daily[5] is not None
    assert daily[5].phi > 1
    assert hourly_rates(hours[:12], n[:12], 60)[13] is None


def test_silence_counts_what_the_hours_bring_and_does_not_end_at_night() -> None:
    day, night = rate_bounds(60 * 600, 600, 1.0), None
    rates = tuple(day if 6 <= hour % 24 < 18 else night for hour in range(168))
    known = Baseline(days=7, pooled=Normal(np.zeros(48), np.ones(48), 1.0, None), segments={}, rates=rates)
    last = MONDAY + timedelta(hours=17, minutes=59)

    def after(minutes: float) -> bool:
        return silence(known, Budget(), last_image=last, now=last + timedelta(minutes=minutes)).silent

    assert (after(0.2), after(1), after(600)) == (False, True, True)
    evening = MONDAY + timedelta(hours=18)
    assert not silence(known, Budget(), last_image=evening, now=evening + timedelta(hours=11)).silent
    assert Detector(NULL).silence(last_image=last, now=MONDAY) is None


def test_bootstrap_blocks_of_a_reference_flag_one_in_a_hundred_of_their_like() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(2000, 4)) @ rng.normal(size=(4, 4))
    reference = bootstrap(z, rng)
    assert reference.q == pytest.approx(0.0157, abs=1e-4)
    assert (np.diff(reference.sizes) > 0).all()
    assert reference.t2 == pytest.approx(np.full(11, 13.28), rel=0.25)  # χ² of 4 at .99
    assert (np.diff(reference.spread) < 0).all()
    assert limits(BLOCK, reference).low < limits(3200, reference).low < 0 < limits(3200, reference).high
