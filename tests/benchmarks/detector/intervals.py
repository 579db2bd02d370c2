"""Bounds of what was counted."""

from scipy.stats import chi2

from pipeline.shift.threshold import clopper_pearson


def upper_rate(count: int, months: float) -> float:
    """The one-sided 95 % upper bound of a Poisson rate, a month."""
    return float(chi2.ppf(0.95, 2 * count + 2)) / 2 / months if months > 0 else float("inf")


def proportion(count: int, of: int) -> tuple[float, float]:
    """Clopper-Pearson, 95 %."""
    return clopper_pearson(count, of)
