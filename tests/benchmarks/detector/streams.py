"""Image by image: the product's recursion against CUSUMs that know the shift, and streams that peers can read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, eye_array
from scipy.sparse.linalg import spsolve
from scipy.special import ndtr, ndtri

from pipeline.records import Float64s
from pipeline.shift.evidence import advance, flag_increments, log_mixture
from pipeline.shift.ladder import R_UP
from pipeline.simulation.damage import UNUSUAL_SD
from pipeline.simulation.finding import quantiles

P0 = 0.05
FOUR = (0.07, 0.10, 0.20, 0.50)
TEN = (0.06, 0.062, 0.07, 0.085, 0.10, 0.14, 0.20, 0.30, 0.50, 0.75)
CHANGE = 2_500  # images before it

#: R runs at once: flags (R,) in, which runs alarm (R,) out; an alarm starts anew.
Step = Callable[[NDArray[np.bool_]], NDArray[np.bool_]]


def e_sr(runs: int, mean_images: float) -> Step:
    """The product's mixture, evaluated at every image, null 5 %, alarm at M >= A."""
    ell = np.full((runs, len(R_UP)), -np.inf)
    ones, q = np.ones(runs), np.full(runs, P0)

    def step(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        ell[:] = advance(ell, ones, flag_increments(flags.astype(np.float64), ones, q, R_UP))
        over: NDArray[np.bool_] = log_mixture(ell, -np.log(len(R_UP))) >= np.log(mean_images)
        ell[over] = -np.inf
        return over

    return step


def cusum(runs: int, p1: float, threshold: float) -> Step:
    """Bernoulli CUSUM tuned to p1: optimal where p1 is the truth (Moustakides 1986)."""
    up, down = np.log(p1 / P0), np.log((1 - p1) / (1 - P0))
    c = np.zeros(runs)

    def step(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        np.maximum(c + np.where(flags, up, down), 0, out=c)
        over: NDArray[np.bool_] = c >= threshold
        c[over] = 0
        return over

    return step


def run_length(step: Step, runs: int, images: int, rng: np.random.Generator) -> tuple[int, int]:
    """False alarms, and images seen by all runs."""
    return sum(int(step(rng.random(runs) < P0).sum()) for _ in range(images)), runs * images


def cusum_threshold(p1: float, mean_images: float) -> float:
    """The threshold at which a false alarm comes every `mean_images` images, from exact run lengths on a lattice.

    The steps up and down are nearly whole multiples of a small one (Brook and Evans 1972).
    """
    up, down = np.log(p1 / P0), -np.log((1 - p1) / (1 - P0))
    parts = min(range(5, 31), key=lambda k: abs(k * up / down - round(k * up / down)) / (k * up / down))
    rise = round(parts * up / down)
    low, high = 1, 2
    while _lattice_length(high, rise, parts) < mean_images:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _lattice_length(middle, rise, parts) < mean_images else (low, middle)
    return float(high * down / parts)


def _lattice_length(states: int, rise: int, fall: int) -> float:
    """Mean images until a walk that begins at 0 and is held there reaches `states`."""
    at = np.arange(states)
    up, down = at + rise, np.maximum(at - fall, 0)
    inside = up < states
    moves = csc_array(
        (
            np.concatenate([np.full(inside.sum(), P0), np.full(states, 1 - P0)]),
            (np.concatenate([at[inside], at]), np.concatenate([up[inside], down])),
        ),
        shape=(states, states),
    )
    return float(spsolve(eye_array(states, format="csc") - moves, np.ones(states))[0])


def delays(
    step: Step, p1: float, runs: int, rng: np.random.Generator, *, change: int = CHANGE, limit: int = 30_000
) -> Float64s:
    """(R,) images from the change until the alarm; inf where there is none within the limit."""
    for _ in range(change):
        step(rng.random(runs) < P0)
    found = np.full(runs, np.inf)
    for i in range(1, limit + 1):
        over = step(rng.random(runs) < p1)
        found[over & np.isinf(found)] = i
        if i % 50 == 0 and np.isfinite(found).all():
            break
    return found


@dataclass(frozen=True)
class Regret:
    """Images until a shift from 5 % to `share` is found, against the CUSUM that was told the share."""

    share: float
    oracle_median: float
    oracle_most: float
    guaranteed_median: float  # A = 10⁶, promised
    guaranteed_most: float
    guaranteed_ratio: float
    calibrated_median: float  # A = 6.4·10⁵: its measured run length is 10⁶
    calibrated_most: float
    calibrated_ratio: float
    mean_over_bound: float  # mean delay of the guaranteed one · KL / log of its run length


def regret(share: float, *, runs: int, seed: int, length: float) -> Regret:
    """One share; `length` is the measured run length of the guaranteed detector."""
    threshold = cusum_threshold(share, 1e6)
    found = [
        delays(step, share, runs, np.random.default_rng(seed + 1))
        for step in (cusum(runs, share, threshold), e_sr(runs, 1e6), e_sr(runs, 6.4e5))
    ]
    oracle, guaranteed, calibrated = (quantiles(of) for of in found)
    kl = share * np.log(share / P0) + (1 - share) * np.log((1 - share) / (1 - P0))
    return Regret(
        share,
        *oracle,
        *guaranteed,
        guaranteed[0] / oracle[0],
        *calibrated,
        calibrated[0] / oracle[0],
        float(found[1].mean() * kl / np.log(length)),
    )


def write_streams(path: str, *, clean: int, runs: int, change: int, after: int, seed: int) -> None:
    """Flags and scores for peers: a clean stream, and runs that change; reference images for those that need some.

    Runs change at different places, for some detectors look at every 32nd image only.
    """
    rng = np.random.default_rng(seed)
    threshold = float(ndtri(1 - P0))
    energies, reference = rng.standard_normal(clean).astype(np.float32), rng.standard_normal(1_000)
    changes = change + rng.integers(0, max(change // 5, 32), runs)
    arrays: dict[str, NDArray[Any]] = {
        "changes": changes,
        "clean_energies": energies,
        "clean_flags": (energies > threshold).astype(np.float32),
        "reference_energies": reference,
        "reference_flags": reference > threshold,
    }
    flagged = float(1 - ndtr(threshold - UNUSUAL_SD))
    length = int(changes.max()) + after
    for name, share in (("10", 0.1), ("20", 0.2), ("50", 0.5)):
        unusual = rng.random((runs, length)) < (share - P0) / (flagged - P0)
        unusual &= np.arange(length) >= changes[:, None]
        scores = (rng.standard_normal((runs, length)) + UNUSUAL_SD * unusual).astype(np.float32)
        arrays |= {f"energies_{name}": scores, f"flags_{name}": (scores > threshold).astype(np.float32)}
    np.savez(path, **arrays)  # type: ignore[arg-type]
