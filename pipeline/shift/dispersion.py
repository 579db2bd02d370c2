"""Dispersion D: how many images count as one, because neighbours in time resemble each other."""

from scipy.special import chdtri

from pipeline.records import Float64s

SPANS = (1, 5, 20)  # ticks of a block; longer ones would also hold the promise, but blind the detector
_CONFIDENCE = 0.95
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


def upper_half(histograms: Float64s) -> Float64s:
    """Images in the upper half of the reference's scores, (T,)."""
    upper: Float64s = histograms[:, _UPPER:].sum(axis=1)
    return upper
