"""Images that represent what is different about a window: often there, seldom in the reference, unlike one another.

With X the reference's rows and Y the window's, of d projected features:

    π(x) = p_Y(x) / (p_X(x) + p_Y(x)),   estimated as ½ θᵀφ(x),   φ_c(x) = exp(−‖x − c‖² / 2σ²)
    θ    = (H + λI)⁻¹ h,   H = ½ mean_Y φφᵀ + ½ mean_X φφᵀ,   h = mean_Y φ

2π is the relative density ratio at α = ½; it is bounded, so that few rows in an empty region do no harm. σ and λ
minimise J = ½ (½ mean_Y r² + ½ mean_X r²) − mean_Y r, r = 2π, over held-out folds, and each row is judged by a fit
that has not seen it. Then, greedily, rows S of Y that

    maximise Σ_i w_i max_{s∈S} exp(−‖y_i − y_s‖² / 2σ²),   w = max(0, 2π − 1) where π ≥ ⅔, else 0

which comes to at least 1 − 1/e of the best choice.

Sources: Yamada, Suzuki, Kanamori, Hachiya, Sugiyama 2013, "Relative Density-Ratio Estimation for Robust Distribution
Comparison" (RuLSIF); Nemhauser, Wolsey, Fisher 1978 for the greedy bound. Departures: centres are drawn from both
sets, π is cut to [0, 1].
"""

from typing import NamedTuple

import numpy as np

from pipeline.records import Float64s, Ints

FEWEST = 20  # rows of each set: fewer say nothing
TWICE = 2 / 3  # π of what is twice as frequent in the window
_CENTRES = 100
_FOLDS = 5
_WIDTHS = (0.25, 0.5, 1.0)  # σ, in median distances
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0)


class Representative(NamedTuple):
    """A row of the window."""

    row: int
    likelihood: float  # π: that an image like it is of the window, were both sets as large
    share: float  # of the window's rows: of those with π ≥ ⅔, the ones that are nearest to this one
    nearest: int  # row of the reference


def representatives(
    reference: Float64s, window: Float64s, most: int, *, rng: np.random.Generator
) -> list[Representative]:
    """At most so many rows of the window (m, d) against a reference (n, d), the most telling first.

    Empty where nothing is twice as frequent as in the reference, or a set has fewer than 20 rows.
    """
    if min(len(reference), len(window)) < FEWEST:
        return []
    rows = np.concatenate([reference, window])
    centres = rows[_drawn(len(reference), len(window), rng)]
    squares = squared_distances(rows, centres)
    median = float(np.median(np.sqrt(squares)))
    if median <= 0:
        return []
    fold = np.concatenate([rng.permutation(len(one)) % _FOLDS for one in (reference, window)])
    likelihood, sigma = _best(squares, fold, len(reference), median)
    likelihood = likelihood[len(reference) :]
    telling = likelihood >= TWICE
    candidates = np.flatnonzero(telling)
    alike = np.exp(-squared_distances(window[candidates], window[candidates]) / (2 * sigma**2))
    chosen = candidates[greedy(alike, 2 * likelihood[candidates] - 1, most)]
    home = squared_distances(window[candidates], window[chosen]).argmin(axis=1) if len(chosen) else candidates
    nearest = squared_distances(window[chosen], reference).argmin(axis=1)
    return [
        Representative(int(row), float(likelihood[row]), float((home == i).sum()) / len(window), int(nearest[i]))
        for i, row in enumerate(chosen)
    ]


def greedy(alike: Float64s, weights: Float64s, most: int) -> Ints:
    """Columns of a similarity (m, m) in [0, 1], one after another the one that adds most to Σ_i w_i max_s alike[i, s].

    Stops where nothing is added any more.
    """
    chosen: list[int] = []
    covered = np.zeros(len(alike))
    for _ in range(min(most, len(alike))):
        gains = weights @ np.maximum(alike - covered[:, None], 0.0)
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        chosen.append(best)
        covered = np.maximum(covered, alike[:, best])
    return np.array(chosen, dtype=np.int64)


def squared_distances(left: Float64s, right: Float64s) -> Float64s:
    """(m, n) of rows (m, d) and (n, d)."""
    squares = (left * left).sum(axis=1)[:, None] + (right * right).sum(axis=1) - 2 * left @ right.T
    return np.asarray(np.maximum(squares, 0.0))


def _drawn(n: int, m: int, rng: np.random.Generator) -> Ints:
    """Half of the centres from each set, as far as it goes."""
    of_reference = rng.permutation(n)[: _CENTRES // 2]
    return np.concatenate([of_reference, n + rng.permutation(m)[: _CENTRES // 2]])


def _best(squares: Float64s, fold: Ints, n: int, median: float) -> tuple[Float64s, float]:
    """π of all rows by fits that have not seen them, and σ: those of the least held-out loss."""
    best, least, chosen = np.zeros(len(squares)), np.inf, median
    for width in _WIDTHS:
        sigma = width * median
        phi = np.exp(-squares / (2 * sigma**2))
        for ratio in _held_out(phi, fold, n):
            loss = 0.25 * ((ratio[:n] ** 2).mean() + (ratio[n:] ** 2).mean()) - ratio[n:].mean()
            if loss < least:
                best, least, chosen = ratio, loss, sigma
    return np.clip(best / 2, 0.0, 1.0), chosen


def _held_out(phi: Float64s, fold: Ints, n: int) -> list[Float64s]:
    """r of each row by a fit to the other folds, for each ridge."""
    is_window = np.arange(len(phi)) >= n
    found = [np.zeros(len(phi)) for _ in _RIDGES]
    for one in range(_FOLDS):
        x, y = phi[(fold != one) & ~is_window], phi[(fold != one) & is_window]
        h = y.mean(axis=0)
        values, vectors = np.linalg.eigh((y.T @ y / len(y) + x.T @ x / len(x)) / 2)
        seen = phi[fold == one] @ vectors
        for ratio, ridge in zip(found, _RIDGES, strict=True):
            ratio[fold == one] = seen @ ((vectors.T @ h) / (np.maximum(values, 0.0) + ridge))
    return found
