"""Evidence for a shift: the one recursion that every signal uses.

The mixture e-detector of Shiryaev-Roberts form (Shin, Ramdas and Rinaldo 2022, arXiv:2203.03532).
Component j of a stream bets on one alternative; e^inc is its likelihood ratio on one tick:

    R_j ← (R_j + c)·e^inc_j        c = clock(Δ, n): first the clock, then the evidence
    M   = Σ_j w_j·R_j              over ⇔ log M >= log(A/π)

Where E[e^inc | past] <= 1, M − Σc is a supermartingale, so M reaches A/π at most once in A/π minutes
on average, under any dependence that this allows. Everything is held as ℓ = log R: 5,000 flags in a
row pass e^700 in one tick. ℓ = −∞ is "no evidence yet", at the start and after a reset.

Beside R every component keeps a CUSUM C, which says since when its bet pays: the onset.

A stream's numbers never depend on the streams beside it: no operation mixes rows, and none leaves
the order of its sum to BLAS. So a replay gives the same bits, whichever streams it holds.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Float64s, Ints

#: One record a stream; a structured array grows, is copied and is stored as one thing.
Streams = NDArray[np.void]


def onset_fields(components: int, *sums: str) -> list[tuple[str, str, tuple[int]]]:
    """The fields of a CUSUM: C, where it began, and what was counted since."""
    return [("c", "<f8", (components,)), ("t0", "<i8", (components,))] + [(name, "<f8", (components,)) for name in sums]


def clock(minutes: float, n: Float64s, mean_minutes: float, mean_images: float) -> Float64s:
    """c = min(Δ, n·A/N): minutes of budget that a tick of Δ minutes and n effective images spends.

    The cap stops an alarm by time alone: without it 30 silent days would raise one without a flag.
    """
    return np.minimum(minutes, n * mean_minutes / mean_images)


def flag_increments(k: Float64s, n: Float64s, q: Float64s, ratios: Float64s) -> Float64s:
    """inc_j = k·log r_j − n·log1p((r_j − 1)·q), shape (S, J).

    The log likelihood ratio of k flags among n effective images, odds r_j against the null fraction q.
    E[e^inc] <= 1 while the flag probability is <= q (>= q for r < 1), also for soft flags in [0, 1].

    Args:
        k, n, q: (S,) one a stream; k and n divided by the dispersion D.
        ratios: (J,) odds ratios r.
    """
    return k[:, None] * np.log(ratios) - n[:, None] * np.log1p((ratios - 1) * q[:, None])


def advance(ell: Float64s, clocks: Float64s, increments: Float64s) -> Float64s:
    """ℓ after one tick, (S, J); clocks (S,) in minutes."""
    with np.errstate(divide="ignore"):
        return _log_add(ell, np.log(clocks)[:, None]) + increments


def log_mixture(ell: Float64s, log_weights: Float64s | float) -> Float64s:
    """log M = log Σ_j w_j e^ℓ_j of each stream, (S,); −∞ where all components are."""
    terms = ell + log_weights
    largest = terms.max(axis=1)
    largest[np.isneginf(largest)] = 0.0
    with np.errstate(divide="ignore"):
        mixed: Float64s = largest + np.log(np.exp(terms - largest[:, None]).sum(axis=1))
    return mixed


def _log_add(a: Float64s, b: Float64s) -> Float64s:
    """log(e^a + e^b) as np.logaddexp, which takes ten times as long: it has no vector instructions."""
    with np.errstate(invalid="ignore"):
        share = np.fmin(np.exp(-np.abs(a - b)), 1.0)  # 1 also where both are −∞
    total: Float64s = np.maximum(a, b) + np.log1p(share)
    return total


def track_onset(streams: Streams, t: int, increments: Float64s, **amounts: Float64s) -> None:
    """C ← max(C + inc, 0) in place; where C was 0 the count starts anew at t, where it falls to 0 it ends.

    Args:
        amounts: (S,) what the fields of that name count, as the images n and their flags k.
    """
    began = np.where(streams["c"] > 0, streams["t0"], t)
    total = streams["c"] + increments
    pays = total > 0
    streams["c"] = np.where(pays, total, 0.0)
    streams["t0"] = np.where(pays, began, 0)
    for name, amount in amounts.items():
        streams[name] = np.where(pays, streams[name] + amount[:, None], 0.0)


def leading(streams: Streams) -> tuple[Ints, NDArray[np.bool_]]:
    """The first component with the largest C of each stream, and whether it has an onset at all (C > 0)."""
    j = np.argmax(streams["c"], axis=1)
    return j, of_leading(streams, "c", j) > 0


def of_leading(streams: Streams, name: str, j: Ints) -> NDArray[Any]:
    """Field `name` of component j of each stream, (S,)."""
    values: NDArray[Any] = streams[name][np.arange(len(streams)), j]
    return values


Map = tuple[Float64s, Float64s]  # R → e^a·R + e^b, as (a, b)


def tick_map(increments: Float64s, clocks: Float64s) -> Map:
    """A tick as the map R → e^a·R + e^b: a = inc, b = inc + log c."""
    with np.errstate(divide="ignore"):
        return increments, increments + np.log(clocks)[:, None]


def merge_maps(first: Map, then: Map) -> Map:
    """First one map, then the other. Associative, not commutative: hours from minutes, exactly.

    The stretch must hold no reset; maxima inside it are lost.
    """
    (a, b), (a2, b2) = first, then
    return a + a2, np.logaddexp(b + a2, b2)


def apply_map(ell: Float64s, a: Float64s, b: Float64s) -> Float64s:
    """ℓ after a map."""
    return np.logaddexp(ell + a, b)
