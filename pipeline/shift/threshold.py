"""The threshold and what is known about its flag rate (split conformal)."""

import math

import numpy as np
from scipy.special import betaincinv

from pipeline.errors import RefusedError
from pipeline.records import Float64s

NO_ALERTS_BELOW = 200  # images: below, nothing can be told from chance
PROVISIONAL_BELOW = 1_380  # the true rate at 5 % is then not yet known to stay under 6 %
RECOMMENDED = 2_000
HISTOGRAM_NEEDS = 1_000  # below, the bins of the score histogram are too uncertain to watch it


def conformal_rank(n: int, alpha: float) -> int:
    """m = ⌈(n + 1)(1 − α)⌉: the threshold is the m-th smallest of n scores.

    A new exchangeable image exceeds it with probability at most α (Vovk et al. 2005, split
    conformal prediction). Raises RefusedError where m > n, that is n < 1/α − 1.
    """
    m = math.ceil((n + 1) * (1 - alpha) - 1e-9)
    if m > n:
        needed = math.ceil(1 / alpha - 1 - 1e-9)
        raise RefusedError(
            f"{n} images are too few for a threshold that flags {100 * alpha:.3g}% of normal images: at least {needed}"
            f" are needed, {RECOMMENDED} are recommended"
        )
    return max(m, 1)


def conformal_threshold(scores: Float64s, alpha: float) -> tuple[float, int]:
    """The m-th smallest of the scores, shape (n,), in nats, and m. An image is flagged above it, strictly."""
    m = conformal_rank(len(scores), alpha)
    return float(np.partition(scores, m - 1)[m - 1]), m


def flag_rate_bounds(n: int, m: int, *, low: float = 0.01, high: float = 0.95) -> tuple[float, float]:
    """Bounds (p0⁻, p0⁺) of the true flag rate: its `low` and `high` quantiles.

    The true rate of the m-th smallest of n independent scores is Beta(n + 1 − m, m), whatever the
    model. p0⁻ is the 1 % quantile, not the 5 %: one unlucky deployment in forty raised 62 low-side
    alarms a month at 5 %.
    """
    a, b = n + 1 - m, m
    return float(betaincinv(a, b, low)), float(betaincinv(a, b, high))


def clopper_pearson(k: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a proportion with k of n; k and n may be fractional (effective counts).

    lo = 0 at k ≤ 0 and hi = 1 at k ≥ n. Raises ValueError for n ≤ 0: no data is not 0 %.
    """
    if n <= 0:
        raise ValueError(f"n = {n}: no data has no interval")
    low, high = clopper_pearson_bounds(np.array([float(k)]), np.array([float(n)]), level=level)
    return float(low[0]), float(high[0])


def clopper_pearson_bounds(k: Float64s, n: Float64s, *, level: float = 0.95) -> tuple[Float64s, Float64s]:
    """The same of many proportions, (S,) each; all n must be above 0."""
    tail = (1 - level) / 2
    some, not_all = k > 0, k < n
    low = np.where(some, betaincinv(np.where(some, k, 1), n - k + 1, tail), 0.0)
    high = np.where(not_all, betaincinv(k + 1, np.where(not_all, n - k, 1), 1 - tail), 1.0)
    return low, high


def promise(n: int, alpha: float) -> str:
    """In words: what a reference of n images can and cannot promise."""
    m = conformal_rank(n, alpha)
    low, high = flag_rate_bounds(n, m, low=0.025, high=0.975)
    text = (
        f"About {100 * alpha:.3g}% of normal images will be flagged; with {n:,} images the true share lies between"
        f" {low:.1%} and {high:.1%} (95 %)."
    )
    if n < NO_ALERTS_BELOW:
        text += f" Too few to raise alerts: at least {NO_ALERTS_BELOW} are needed, {RECOMMENDED:,} are recommended."
    elif n < PROVISIONAL_BELOW:
        text += f" Alerts will be provisional, shown but never paged; {RECOMMENDED:,} images are recommended."
    if n < HISTOGRAM_NEEDS:
        text += (
            f" The score histogram, which sees frozen cameras and a model too sure of itself, needs {HISTOGRAM_NEEDS:,}"
            " and is not watched."
        )
    return text + (
        " It holds for independent images that the model was not trained on: frames of one video count for far fewer."
    )
