"""No data: has the stream been silent for longer than chance and normal pauses explain? Processing time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.shift.baseline import Baseline
from pipeline.shift.budget import Budget
from pipeline.shift.hours import hour_of
from pipeline.shift.signals import silence_limit

_HOUR = timedelta(hours=1)
_LONGEST = timedelta(days=14)  # whoever was silent for two weeks was so by the same hours of both


@dataclass(frozen=True, slots=True)
class Silence:
    """How silent a stream is; `expected` and `limit` count images over φ."""

    silent: bool
    expected: float  # images that normal traffic would have brought since the last one, at least
    limit: float  # inf where nothing is expected at these hours


def silence(baseline: Baseline, budget: Budget, *, last_image: datetime, now: datetime) -> Silence:
    """u = Σ λ⁻Δ/φ since the last image, against max(3, log(λ⁻A/(φπ))) of the busiest hour in between.

    The busiest hour, so that a silence that began by day does not end when the night begins.
    """
    at, expected, limit = last_image.astimezone(UTC), 0.0, 0.0
    end = min(now, at + _LONGEST)
    while at < end:
        until = min(at.replace(minute=0, second=0, microsecond=0) + _HOUR, end)
        rate = baseline.rates[hour_of(at)[0]]
        if rate is not None and rate.low > 0:
            expected += rate.low * ((until - at) / timedelta(minutes=1)) / rate.phi
            limit = max(limit, silence_limit(rate, budget.minutes, budget.shares.silence))
        at = until
    return Silence(0 < limit <= expected, expected, limit or float("inf"))
