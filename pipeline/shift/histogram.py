"""Fixed histogram edges: they belong to the reference, so that production and reference always match.

Edges are inner edges: b of them make b + 1 bins, open at both ends. A value's bin is the number of
edges strictly below it, so that a score on the threshold lies below it, as the flag says.
"""

import numpy as np

from pipeline.records import Float64s, Ints

#: Ranks of the 18-bin score histogram: fine in the tails, where shifts begin.
RANKS = (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1)
BINS = len(RANKS) - 1
FINE_BINS = 256

PROPERTY_BINS = 16
#: Inner edges per image property, on fixed scales that belong to the roll-up's format: never change
#: them without a new format version. Sharpness and colourfulness are crowded near zero.
PROPERTY_EDGES: dict[str, Float64s] = {
    "brightness": np.linspace(0, 1, PROPERTY_BINS + 1)[1:-1],
    "contrast": np.linspace(0, 0.5, PROPERTY_BINS + 1)[1:-1],
    "sharpness": np.geomspace(0.001, 0.5, PROPERTY_BINS - 1),
    "colourfulness": np.linspace(0, 1, PROPERTY_BINS + 1)[1:-1] ** 1.5,
    "size": 2.0 ** np.linspace(6, 26, PROPERTY_BINS - 1),
}


def rank_edges(sorted_scores: Float64s) -> Float64s:
    """The 17 inner edges at RANKS of n ascending scores: the m_i-th smallest, m_i = ⌈u_i(n + 1)⌉ in 1..n."""
    return sorted_scores[edge_ranks(len(sorted_scores)) - 1]


def edge_ranks(n: int) -> Ints:
    """m_i = clip(⌈u_i(n + 1)⌉, 1, n) of the inner ranks, shape (17,)."""
    inner = np.array(RANKS[1:-1])
    return np.clip(np.ceil(inner * (n + 1) - 1e-9), 1, n).astype(np.int64)


def expected_shares(n: int) -> Float64s:
    """p_b: the share of normal scores in each of the 18 bins, from the ranks alone; sums to 1."""
    v = np.concatenate([[0.0], edge_ranks(n) / (n + 1), [1.0]])
    return np.diff(v)


def fine_edges(sorted_scores: Float64s) -> Float64s:
    """255 inner edges of equal distance over [min − w, max + w], w = max − min: room for what is unusual."""
    low, high = float(sorted_scores[0]), float(sorted_scores[-1])
    width = high - low or 1.0
    return np.linspace(low - width, high + width, FINE_BINS + 1)[1:-1]


def bin_of(values: Float64s, edges: Float64s) -> Ints:
    """The bin of each value: how many edges lie strictly below it."""
    return np.searchsorted(edges, values, side="left").astype(np.int64)
