"""What people use instead: a limit on each minute's flags, without memory and without a promise."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from pipeline.records import Ints
from pipeline.shift.threshold import clopper_pearson_bounds
from pipeline.simulation.finding import quantiles

_P0, _LIMIT, _Z = 0.05, 0.10, 1.959964
MONTH = 43_200
Rule = Callable[[Ints, Ints], NDArray[np.bool_]]  # images and flags of a minute


@dataclass(frozen=True)
class OfRule:
    """One rule at one traffic: alarms a month of normal traffic, minutes (median, 95 %) to three shares."""

    rule: str
    images_per_minute: float
    months: float
    a_month: float
    to_10: tuple[float, float]
    to_20: tuple[float, float]
    to_50: tuple[float, float]


def _wilson(n: Ints, k: Ints) -> NDArray[np.bool_]:
    n = np.maximum(n, 1)
    p = k / n
    centre, half = p + _Z**2 / (2 * n), _Z * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    above: NDArray[np.bool_] = (centre - half) / (1 + _Z**2 / n) > _LIMIT
    return above


def _exact(n: Ints, k: Ints) -> NDArray[np.bool_]:
    low, _ = clopper_pearson_bounds(k.ravel().astype(float), np.maximum(n.ravel(), 1).astype(float))
    above: NDArray[np.bool_] = (low > _LIMIT).reshape(n.shape)
    return above


RULES: dict[str, Rule] = {
    "fraction > 10 %": lambda n, k: k > _LIMIT * n,
    "fraction > 10 % of >= 20": lambda n, k: (n >= 20) & (k > _LIMIT * n),
    "Wilson lower bound > 10 %": _wilson,
    "Clopper-Pearson lower bound > 10 %": _exact,
    "binomial p < .05": lambda n, k: binom.sf(k - 1, n, _P0) < 0.05,
    "binomial p < .05 / looks of a month": lambda n, k: binom.sf(k - 1, n, _P0) < 0.05 / MONTH,
}


def measure(rule: str, *, images_per_minute: float, months: int, runs: int, seed: int) -> OfRule:
    """Poisson traffic at a true flag rate of 5 %, then at 10, 20 and 50 %."""
    rng = np.random.default_rng(seed)

    def alarms(p: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        n = rng.poisson(images_per_minute, shape)
        return RULES[rule](n, rng.binomial(n, p))

    false = sum(int(alarms(_P0, (MONTH,)).sum()) for _ in range(months))
    found = []
    for share in (0.10, 0.20, 0.50):
        raised = alarms(share, (1_000, runs))
        found.append(quantiles(np.where(raised.any(axis=0), raised.argmax(axis=0) + 1.0, np.inf)))
    return OfRule(rule, images_per_minute, months, false / months, *found)
