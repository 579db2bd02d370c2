"""By how much two windows differ, at least: tests and bounds that hold at any number of images.

Of a share k of n, n·KL(k/n ‖ q) on one side of the true q exceeds x with a chance of e^−x at most (Chernoff); of the
distance t between a distribution function and the one that was counted, 2n·t² does so with 2·e^−x (Dvoretzky, Kiefer
and Wolfowitz; Massart 1990). Both windows' terms are added, at the two truths no further apart than δ that make the
sum x least; a sum of two such terms exceeds x with a chance of (1 + x)·e^−x at most, the tail of a Gamma(2):

    p("shares differ by no more than δ")   = 2·Γ₂(x)                      twice, for both directions
    p("distribution functions differ ...") = Γ₂(x − 2·ln 2),              x = 2·n₁n₂/(n₁ + n₂)·(D − δ)²

The least difference at a level is the δ whose p-value is that level. n counts independent images: images over their
dispersion.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaincc, gammainccinv

from pipeline.records import Float64s

_STEPS = 50  # of a bisection: to the last digits of a float
_BOTH = 2 * np.log(2)


class Selected(NamedTuple):
    """What is kept of many, and at which level each of it is."""

    kept: np.ndarray[tuple[int], np.dtype[np.bool_]]
    level: float


def difference_of_shares(k: Float64s, n: Float64s, floor: float) -> Float64s:
    """p-values (m,) of |share then − share now| <= floor, of rows k and n (2, m) with n > 0."""
    return _tail_of_shares(k / n, n, np.full(k.shape[1], floor))


def least_difference_of_shares(k: Float64s, n: Float64s, level: float) -> Float64s:
    """(m,) what the shares differ by at least, but for a chance of `level`."""
    shares = k / n
    low, high = np.zeros(k.shape[1]), np.abs(shares[1] - shares[0])
    for _ in range(_STEPS):
        middle = (low + high) / 2
        surely = _tail_of_shares(shares, n, middle) <= level
        low, high = np.where(surely, middle, low), np.where(surely, high, middle)
    return low


def difference_of_shapes(counts: Float64s, n: Float64s, floor: float) -> float:
    """p-value of sup|F − G| <= floor, of two histograms (2, b) over the same bins; n (2,) independent images."""
    beyond = max(0.0, distance(counts) - floor)
    return float(gammaincc(2, max(0.0, 2 * n.prod() / n.sum() * beyond**2 - _BOTH)))


def least_difference_of_shapes(counts: Float64s, n: Float64s, level: float) -> float:
    """What the distribution functions differ by at least, but for a chance of `level`."""
    return max(0.0, distance(counts) - float(np.sqrt((_BOTH + gammainccinv(2, level)) * n.sum() / (2 * n.prod()))))


def distance(counts: Float64s) -> float:
    """sup|F − G| of two histograms (2, b), 0..1: so many images lie on another side of some value."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    return float(np.abs(np.diff(np.cumsum(shares, axis=1), axis=0)).max())


def band(n: Float64s, level: float) -> Float64s:
    """Half the width of the band around a distribution function of n images, wrong with a chance of `level`."""
    found: Float64s = np.sqrt(np.log(2 / level) / (2 * n))
    return found


def divergence(p: Float64s, q: Float64s) -> Float64s:
    """KL(p ‖ q) of two coins, in nats; infinite where q excludes what p has seen."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = np.where(p > 0, p * np.log(p / q), 0.0)
        tails = np.where(p < 1, (1 - p) * np.log((1 - p) / (1 - q)), 0.0)
    found: Float64s = heads + tails
    return found


def select(p: Float64s, rate: float) -> Selected:
    """Benjamini and Yekutieli (2001): of what is kept, `rate` at most is wrong on average, under any dependence.

    Bounds at the returned level are wrong for as many of the kept ones at most, on average (their 2005 paper), and
    exclude the floor for exactly those.
    """
    m = len(p)
    if not m:
        return Selected(np.zeros(0, np.bool_), 0.0)
    levels = np.arange(1, m + 1) * rate / (m * float((1 / np.arange(1, m + 1)).sum()))
    passed = np.flatnonzero(np.sort(p) <= levels)
    level = float(levels[passed[-1]]) if len(passed) else 0.0
    return Selected(p <= level, level)


def _tail_of_shares(shares: Float64s, n: Float64s, floor: Float64s) -> Float64s:
    upward = shares[1] >= shares[0]
    below, above = np.where(upward, shares[0], shares[1]), np.where(upward, shares[1], shares[0])
    n_below, n_above = np.where(upward, n[0], n[1]), np.where(upward, n[1], n[0])

    def slope(of: Float64s, q: Float64s) -> Float64s:
        """d KL(of ‖ q) / dq."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Float64s = np.where(q == of, 0.0, (q - of) / (q * (1 - q)))
        return found

    left, right = below.copy(), np.maximum(above - floor, below)
    for _ in range(_STEPS):  # the sum is convex: it is least where its slope changes sign
        middle = (left + right) / 2
        falls = n_below * slope(below, middle) + n_above * slope(above, middle + floor) < 0
        left, right = np.where(falls, middle, left), np.where(falls, right, middle)
    at = (left + right) / 2
    surprise = n_below * divergence(below, at) + n_above * divergence(above, at + floor)
    found: Float64s = np.where(above - below > floor, np.minimum(1.0, 2 * gammaincc(2, surprise)), 1.0)
    return found
