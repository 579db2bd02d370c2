"""A baseline for people: plain values, of which JSON and sentences are made."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.shift.baseline import DISPERSION_DAYS, Accepted, Baseline, Normal
from pipeline.shift.hours import HOURS_OF_DAY
from pipeline.shift.null import Null
from pipeline.shift.signals import RateBounds
from pipeline.shift.threshold import PROVISIONAL_BELOW

_CLASSES = 10  # of the most frequent


def summarise(baseline: Baseline, pooled: Accepted, null: Null, classes: Sequence[str]) -> dict[str, Any]:
    """What was accepted, and what the detector makes of it; `null` is the reference's own."""
    n, k = float(pooled.n.sum()), float(pooled.k.sum())
    known = null.with_baseline(baseline)
    return {
        "minutes": len(pooled.starts),
        "empty_minutes": int((pooled.n == 0).sum()),
        "images": int(n),
        "flagged": int(k),
        "share": k / n,
        "effective_images": n / baseline.pooled.d,
        "allowed": null.p0_high,
        "pooled": _normal(baseline.pooled),
        "segments": {name: _normal(one) for name, one in baseline.segments.items()},
        "classes": _classes(baseline, classes),
        "rates": _rates(baseline.rates),
        "coverage": "traffic" if baseline.coverage is not None else "reference" if known.coverage is not None else None,
        "provisional": provisional_because(known),
    }


def provisional_because(null: Null) -> list[str]:
    """Why what is raised is shown and never paged; nothing: it is paged."""
    reasons = []
    if null.n < PROVISIONAL_BELOW:
        reasons.append(f"the reference has {null.n:,} calibration images of the {PROVISIONAL_BELOW:,} that are needed")
    if null.baseline is None:
        reasons.append("no traffic was accepted yet, so that its dispersion is not known")
    elif null.baseline.days < DISPERSION_DAYS:
        days = null.baseline.days
        reasons.append(f"{days} whole days are accepted of the {DISPERSION_DAYS} from which dispersion is known")
    return reasons


def _normal(one: Normal) -> dict[str, Any]:
    hours = np.flatnonzero(one.high > 0)
    least, most = one.wander
    known = most > 0 or least < 1
    return {
        "d": one.d,
        "highest": float(one.high.max()),
        "highest_at": None if not len(hours) else _hour(int(one.high.argmax())),
        "lowest": float(one.high[hours].min()) if len(hours) else 0.0,
        "lowest_at": None if not len(hours) else _hour(int(hours[one.high[hours].argmin()])),
        "hours_known": len(hours),
        "wander_high": most if known else None,
        "wander_low": least if known else None,
    }


def _classes(baseline: Baseline, names: Sequence[str]) -> dict[str, Any] | None:
    if (mix := baseline.classes) is None:
        return None
    shares = mix.counts / mix.counts.sum()
    first = np.argsort(-shares, kind="stable")[:_CLASSES]
    bounds = dict(zip(mix.bounds.classes.tolist(), zip(mix.bounds.low, mix.bounds.high, strict=False), strict=False))
    return {
        "d": mix.d,
        "most_frequent": [
            {"class": names[y], "share": float(shares[y]), "low": float(bounds[y][0]), "high": float(bounds[y][1])}
            for y in first.tolist()
        ],
        "watched": len(mix.bounds.classes),
    }


def _rates(rates: Sequence[RateBounds | None]) -> dict[str, Any]:
    known = [(hour, rate) for hour, rate in enumerate(rates) if rate is not None]
    quiet, busy = min(known, key=lambda one: one[1].low), max(known, key=lambda one: one[1].high)
    return {
        "lowest": quiet[1].low,
        "lowest_at": _hour_of_week(quiet[0]),
        "highest": busy[1].high,
        "highest_at": _hour_of_week(busy[0]),
        "phi": max(rate.phi for _, rate in known),
        "hours_known": len(known),
    }


def _hour(hour_bin: int) -> str:
    return f"{hour_bin % HOURS_OF_DAY:02d}h {'on weekends' if hour_bin >= HOURS_OF_DAY else 'on weekdays'}"


def _hour_of_week(hour: int) -> str:
    day = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[hour // HOURS_OF_DAY]
    return f"{day} {hour % HOURS_OF_DAY:02d}h"
