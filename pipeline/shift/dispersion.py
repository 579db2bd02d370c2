"""Dispersion D: how many images count as one, because neighbours in time resemble each other."""

import numpy as np
from scipy.special import chdtri, logsumexp

from pipeline.records import Float64s

SPANS = (1, 5, 20)  # ticks of a block; longer ones would also hold the promise, but blind the detector
_CONFIDENCE = 0.95
_MOST = 64.0  # times D: no divisor is larger
_HALVINGS = 30  # of the interval that a divisor lies in
_UPPER = 9  # the 18-bin histogram's upper half: half the scores, where flags see only the tail


def dispersion(n: Float64s, k: Float64s, p: Float64s | float) -> float:
    """D̂ of k hits of n images in consecutive ticks, (T,), hits being expected at rate p; at least 1.

    In blocks of s ticks: e_b = Σ n·p, v_b = Σ n·p(1 − p), and
    D̂ = max over s of Σ_b(k_b − e_b)²/(χ²_{.05}(blocks − 1)·mean v_b). About 1.2 on independent images.
    """
    found = 1.0
    for span in SPANS:
        blocks = len(n) // span
        if blocks < 2:
            continue
        hits, expected, variance = (
            values[: blocks * span].reshape(blocks, span).sum(axis=1) for values in (k, n * p, n * p * (1 - p))
        )
        if variance.any():
            scale = float(chdtri(blocks - 1, _CONFIDENCE)) * variance.mean()
            found = max(found, float(((hits - expected) ** 2).sum() / scale))
    return found


def stream_dispersion(
    n: Float64s, k: Float64s, p: Float64s | float, histograms: Float64s, p_upper: Float64s | float
) -> float:
    """D of a stream, for every signal: that of its flags or of its scores' upper half, whichever is larger.

    Under slow noise in the scores the flags alone see too little of it: 6.3 false alarms a month.

    Args:
        histograms: (T, 18).
        p_upper: the rate at which the upper half of the reference's scores is hit. By the hour, as accepted:
            the reference's own share, being estimated, would count as dispersion where there is much traffic.
    """
    of_scores = dispersion(histograms.sum(axis=1), upper_half(histograms), p_upper)
    return max(dispersion(n, k, p), of_scores)


def clumping(n: Float64s) -> float:
    """φ of image counts in consecutive ticks, (T,): max over spans s of variance/mean of blocks' sums; at least 1.

    In blocks, because clumps may last longer than a tick.
    """
    found = 1.0
    for span in SPANS:
        blocks = len(n) // span
        sums = n[: blocks * span].reshape(blocks, span).sum(axis=1)
        if blocks >= 2 and sums.any():
            found = max(found, float(sums.var() / sums.mean()))
    return found


def fair_divisors(increments: Float64s, d: float) -> Float64s:
    """What each bet has to be divided by to have been fair on accepted traffic, (J,); at least D, at most 64·D.

    D̂_j = min{D' >= D: mean over blocks of e^(x_j/D') <= 1}, at every span. D says how much sums vary, not how long
    their tails are: of scores that come in runs of a geometric length, mean ten, a bet of 140 to one on one bin in 200
    needs 2.2 times D for its expectation to exist at all. On independent images it is D. (e^(x/D') is convex in 1/D'
    and 1 at 0: the divisors that do are an interval without an upper end.)

    Args:
        increments: (T, J) log bets of consecutive ticks, undivided.
    """

    def logs_of_means(bets: Float64s, divisors: Float64s) -> Float64s:
        found = [np.full(bets.shape[1], -np.inf)]
        for span in SPANS:
            if blocks := len(bets) // span:
                x = bets[: blocks * span].reshape(blocks, span, -1).sum(axis=1) / divisors
                found.append(logsumexp(x, axis=0) - np.log(blocks))
        most: Float64s = np.max(found, axis=0)
        return most

    divisors = np.full(increments.shape[1], d)
    unfair = np.flatnonzero(logs_of_means(increments, divisors) > 0)
    if not len(unfair):
        return divisors
    bets = increments[:, unfair]
    low, high = np.full(len(unfair), d), np.full(len(unfair), _MOST * d)
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        fair = logs_of_means(bets, middle) <= 0
        low, high = np.where(fair, low, middle), np.where(fair, middle, high)
    divisors[unfair] = high
    return divisors


def upper_half(histograms: Float64s) -> Float64s:
    """Images in the upper half of the reference's scores, (T,)."""
    upper: Float64s = histograms[:, _UPPER:].sum(axis=1)
    return upper
