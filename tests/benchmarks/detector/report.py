"""Results as lines for people and for programs."""

import dataclasses
import json
import math
from functools import singledispatch
from typing import Any

from tests.benchmarks.detector.delays import Delay, Graded, Incident
from tests.benchmarks.detector.months import FalseRaises
from tests.benchmarks.detector.peers import OfPeer
from tests.benchmarks.detector.rules import OfRule
from tests.benchmarks.detector.speed import Speed
from tests.benchmarks.detector.streams import Regret
from tests.benchmarks.detector.summary import Target

Result = Delay | Graded | Incident | FalseRaises | OfPeer | OfRule | Speed | Regret | Target


def as_json(result: Result) -> str:
    """One line; what never came is null."""
    return json.dumps(_plain({"line": type(result).__name__, **dataclasses.asdict(result), "met": met(result)}))


def met(result: Result) -> bool | None:
    """Whether the target is met; None where there is none."""
    return getattr(result, "met", None)


def as_text(result: Result) -> str:
    """Title, what was measured, and the target with its verdict."""
    title, measured, target = _parts(result)
    verdict = "" if met(result) is None else "met" if met(result) else "MISSED"
    return f"{title:<48} {measured:<78} {target} {verdict}".rstrip()


@singledispatch
def _parts(result: Result) -> tuple[str, str, str]:
    """Title, what was measured, and the target."""
    raise TypeError(f"{result!r} is no result")


@_parts.register
def _(result: FalseRaises) -> tuple[str, str, str]:
    by = ", ".join(f"{name} {count}" for name, count in result.by_signal.items())
    measured = (
        f"p <= p0+: {result.within_a_month:.3f} a month (<= {result.within_upper:.3f}),"
        f" all: {result.a_month:.3f} in {result.months:g} months; above promise {result.above_share:.0%}"
        f" ({result.above_low:.0%} to {result.above_high:.0%}){'; ' + by if by else ''}"
    )
    return result.case, measured, "<= 1 a month"


@_parts.register
def _(result: Delay) -> tuple[str, str, str]:
    measured = f"{_two((result.median, result.most))} min, first {result.first} ({result.first_share:.0%})"
    if result.published:
        measured += f"; fraction alone {_two((result.fraction_median, result.fraction_most))}"
    if result.right_segment is not None:
        measured += f"; right segment {result.right_segment:.0%}"
    return result.case, measured, result.target


@_parts.register
def _(result: Incident) -> tuple[str, str, str]:
    measured = (
        f"exactly one warning {result.one_warning:.1%}; before {result.warnings_before:.3f}, after"
        f" {result.warnings_after:.3f}; ok {_two((result.to_ok_median, result.to_ok_most))} min,"
        f" all signals {_two((result.all_ok_median, result.all_ok_most))}"
    )
    return result.case, measured, result.target


@_parts.register
def _(result: Graded) -> tuple[str, str, str]:
    measured = (
        f"in 24 h: shift {result.shift:.2f} @{result.shift_median:.0f} min, warning {result.warning:.2f}"
        f" @{result.warning_median:.0f}, critical {result.critical:.2f}"
    )
    return f"S7 true fraction {result.share:.1%}", measured, result.target


@_parts.register
def _(result: Regret) -> tuple[str, str, str]:
    measured = (
        f"oracle {_two((result.oracle_median, result.oracle_most))}, e-SR"
        f" {_two((result.guaranteed_median, result.guaranteed_most))} (x{result.guaranteed_ratio:.2f}), calibrated"
        f" {_two((result.calibrated_median, result.calibrated_most))} (x{result.calibrated_ratio:.2f});"
        f" mean/bound {result.mean_over_bound:.2f}"
    )
    return f"5 to {result.share:.1%}, image by image", measured, ""


@_parts.register
def _(result: OfRule) -> tuple[str, str, str]:
    measured = f"{result.a_month:.4g} alarms a month; to 10/20/50 %: {_shares(result)} min"
    return f"{result.rule}, {result.images_per_minute:g} a minute", measured, ""


@_parts.register
def _(result: OfPeer) -> tuple[str, str, str]:
    title = f"{result.library} {result.detector}, {result.setting}"
    if result.skipped:
        return title, f"skipped: {result.skipped}", ""
    measured = f"{result.alarms} alarms in {result.images:,} images; to 10/20/50 %: {_shares(result)} images"
    cost = "" if result.us_an_image is None else f", {result.us_an_image:.1f} us an image"
    return title, measured + cost, ""


@_parts.register
def _(result: Speed) -> tuple[str, str, str]:
    limit = "" if result.at_most is None else f"<= {result.at_most:g} {result.unit}"
    return result.what, f"{result.value:.3g} {result.unit}", limit


@_parts.register
def _(result: Target) -> tuple[str, str, str]:
    return result.what, f"{result.value:.3g}", f"<= {result.at_most:g}"


def _shares(of: OfRule | OfPeer) -> str:
    return ", ".join(_two(pair) for pair in (of.to_10, of.to_20, of.to_50) if pair is not None)


def _two(pair: tuple[float | None, float | None]) -> str:
    """Median/95 %."""
    return "/".join("never" if value is None or math.isinf(value) else f"{value:.0f}" for value in pair)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
