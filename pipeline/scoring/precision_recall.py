"""Probabilistic precision and recall: does production show new things, does it still show all old ones?

    R(X)            = a · mean_i d_k(x_i),   d_k(x_i) = distance of x_i to its k-th neighbour in X, itself left out
    support_X(y)    = 1 − Π_i min(1, ‖x_i − y‖ / R(X))
    P-precision     = mean_y support_X(y)        low: production contains what the reference X does not
    P-recall        = mean_x support_Y(x)        low: production Y no longer contains what the reference does

All lie in [0, 1]; exchanging the sets exchanges the two figures. Without any change they are *not* 1, and depend
on sizes and dimensions: see `scoring.matched_null` for what is normal.

Source: Park and Kim 2023, "Probabilistic Precision and Recall Towards Reliable Evaluation of Generative Models"
(arXiv:2309.01590), with its a = 1.2 and k = 4. Departures from the authors' code: sets are centred before
distances are taken, so that an offset of all features costs no digits; distances of neighbours are taken as
differences, so that equal rows are exactly 0 apart; where R = 0 (all rows equal) every support is 0 and the case
is named; and P-recall is also given for the rows of production that the reference supports at all, because R is
a mean, and 2 % of far outliers in production raise it until nothing seems lost.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RefusedError, UsageError
from pipeline.records import Float64s

A, K = 1.2, 4
CHUNK = 1024  # rows of a matrix of distances that are in memory at once
_COARSEST = 1e-5  # rounding of a squared distance, in units of R²


class Degenerate(StrEnum):
    """Why a figure means something else than usual."""

    REFERENCE_EQUAL = "reference_equal"  # its rows are all the same: nothing is supported, P-precision is 0
    PRODUCTION_EQUAL = "production_equal"  # one image again and again: nothing is covered, P-recall is 0
    NOTHING_IN_SUPPORT = "nothing_in_support"  # too few supported rows are left for the P-recall of those


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """The figures of a reference X (n, D) and production Y (m, D)."""

    p_precision: float
    p_recall: float
    p_recall_in_support: float | None  # of the rows with support > 0; None where too few are left
    radius_reference: float  # R(X), in the unit of the features
    radius_production: float  # R(Y)
    support: Tensor  # (m,) float64: support_X(y)
    coverage: Tensor  # (n,) float64: support_Y(x), Y cut down to what X supports where there is enough
    degenerate: tuple[Degenerate, ...]


def precision_recall(
    reference: Tensor, production: Tensor, *, a: float = A, k: int = K, chunk: int = CHUNK
) -> PrecisionRecall:
    """Both figures, exactly, in O(nmD) time and O(chunk · max(n, m)) memory.

    Args:
        reference, production: (n, D) and (m, D), of one dtype, float32 or float64, on one device.
        chunk: rows at a time; changes nothing but memory.

    Raises RefusedError for fewer than k + 2 rows, UsageError for other shapes, for values that are not finite,
    and for a, k out of range.
    """
    check_rows(reference, "the reference", k)
    check_rows(production, "production", k)
    check_parameters(a, k)
    if reference.shape[1] != production.shape[1]:
        raise UsageError(
            f"the reference has {reference.shape[1]} features a row, production {production.shape[1]}: take both from"
            " one model"
        )
    ball = radius(reference, a=a, k=k, chunk=chunk), radius(production, a=a, k=k, chunk=chunk)
    supported = support(production, reference, ball[0], chunk=chunk)
    covered = support(reference, production, ball[1], chunk=chunk)
    p_recall, in_support = float(covered.mean()), float(covered.mean()) if ball[1] > 0 else None
    kept = supported > 0
    degenerate = [
        name
        for name, size in zip((Degenerate.REFERENCE_EQUAL, Degenerate.PRODUCTION_EQUAL), ball, strict=True)
        if size <= 0
    ]
    if not kept.all():
        in_support = None
        if int(kept.sum()) >= k + 2:
            inside = production[kept]
            covered = support(reference, inside, radius(inside, a=a, k=k, chunk=chunk), chunk=chunk)
            in_support = float(covered.mean())
        else:
            degenerate.append(Degenerate.NOTHING_IN_SUPPORT)
    return PrecisionRecall(float(supported.mean()), p_recall, in_support, *ball, supported, covered, tuple(degenerate))


def radius(rows: Tensor, *, a: float = A, k: int = K, chunk: int = CHUNK) -> float:
    """R of rows (n, D), n ≥ k + 2: a times the mean distance to the k-th neighbour; 0 where each has k equal ones."""
    centred = (rows.double() - rows.double().mean(0)).to(rows.dtype)
    norms = centred.square().sum(1)
    total = 0.0
    for first in range(0, len(centred), chunk):
        part = centred[first : first + chunk]
        squares = _squares(part, centred, norms[first : first + chunk], norms)
        squares[torch.arange(len(part)), torch.arange(first, first + len(part))] = math.inf
        near = squares.topk(min(k + 1, len(centred) - 1), largest=False).indices
        exact = torch.linalg.vector_norm(part[:, None].double() - centred[near].double(), dim=2)
        total += float(exact.sort(dim=1).values[:, k - 1].sum())
    size = a * total / len(centred)
    if rows.dtype != torch.float64 and not _is_fine(rows.dtype, float(norms.mean()), size):
        return radius(rows.double(), a=a, k=k, chunk=chunk)  # the neighbours may have been others
    return size


def support(rows: Tensor, reference: Tensor, radius: float, *, chunk: int = CHUNK) -> Tensor:
    """1 − Π_i min(1, ‖x_i − y‖ / R) for each of m rows y, (m,) float64; reference x (n, D). 0 where R ≤ 0."""
    if radius <= 0:
        return torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    return Support(reference, radius)(rows, chunk=chunk)


class Support:
    """How well a reference supports rows, with all that depends on the reference alone worked out before."""

    def __init__(self, reference: Tensor, radius: float) -> None:
        self._mean = reference.double().mean(0)
        self._radius = radius
        scaled = self._scale(reference)
        fine = _is_fine(reference.dtype, float(scaled.square().sum(1).mean()), 1.0)
        self._scaled = scaled.to(reference.dtype if fine else torch.float64)
        self._norms = self._scaled.square().sum(1)

    def __call__(self, rows: Tensor, *, chunk: int = CHUNK) -> Tensor:
        """(m,) float64 of rows (m, D)."""
        scaled = self._scale(rows).to(self._scaled.dtype)
        missed = torch.empty(len(scaled), dtype=torch.float64, device=rows.device)
        for first in range(0, len(scaled), chunk):
            part = scaled[first : first + chunk]
            squares = _squares(part, self._scaled, part.square().sum(1), self._norms)
            # The root of the product of squares: one root a row in place of one a pair.
            missed[first : first + chunk] = squares.clamp_(max=1).prod(dim=1).double().sqrt()
        return 1 - missed

    def _scale(self, rows: Tensor) -> Tensor:
        """In units of the radius about the reference's mean, float64: features may lie far from 0."""
        return (rows.double() - self._mean) / self._radius


def image_support(
    reference: Float64s, device: str | torch.device = "cpu", *, a: float = A, k: int = K
) -> Callable[[Float64s], Float64s] | None:
    """Support by a reference's stored images, as the worker asks for it: (m, d) → (m,), float64 on the device.

    Its mean over any images is their P-precision. None where fewer than k + 2 images are stored, or all are equal.
    """
    rows = torch.from_numpy(np.ascontiguousarray(reference, np.float64)).to(device)
    size = radius(rows, a=a, k=k) if len(rows) >= k + 2 else 0.0
    if size <= 0:
        return None
    measure = Support(rows, size)

    def supports(projected: Float64s) -> Float64s:
        found: Float64s = measure(torch.from_numpy(projected).to(device)).cpu().numpy()
        return found

    return supports


def check_rows(rows: Tensor, what: str, k: int) -> None:
    """Raise for rows of which nothing can be said: UsageError for a wrong shape or NaN, RefusedError for too few."""
    if rows.ndim != 2 or not rows.shape[1]:
        raise UsageError(f"{what} has shape {tuple(rows.shape)}: needs one row of features an image, (n, D)")
    bad = int((~torch.isfinite(rows)).any(dim=1).sum())
    if bad:
        raise UsageError(f"{what}: {bad:,} of {len(rows):,} rows hold NaN or infinity; leave such rows out")
    if len(rows) < k + 2:
        raise RefusedError(
            f"{what}: insufficient data, {len(rows)} rows, k = {k} neighbours need at least {k + 2}; give more images"
        )


def check_parameters(a: float, k: int) -> None:
    """Raise UsageError for a radius or a number of neighbours that cannot be meant."""
    if not (math.isfinite(a) and a > 0):
        raise UsageError(f"a = {a}: must be above 0; the paper's is {A}")
    if k < 1:
        raise UsageError(f"k = {k}: must be at least 1; the paper's is {K}")


def _is_fine(dtype: torch.dtype, norm: float, radius: float) -> bool:
    """Whether products of rows of mean squared `norm` are exact enough: they keep ε ‖x‖² of a squared distance.

    Float32 is not where the radius is small beside the spread of the rows.
    """
    return torch.finfo(dtype).eps * norm < _COARSEST * radius**2


def squared_distances(rows: Tensor, others: Tensor) -> Tensor:
    """‖y − x‖², (m, n), of rows y (m, D) and others x (n, D); without rounding's part, see `_squares`."""
    mean = others.mean(0)
    rows, others = rows - mean, others - mean
    return _squares(rows, others, rows.square().sum(1), others.square().sum(1))


def _squares(rows: Tensor, others: Tensor, row_norms: Tensor, other_norms: Tensor) -> Tensor:
    """‖y − x‖², (m, n), by one matrix product.

    What rounding may leave of the difference of two equal rows is taken off: 4 ε (‖x‖² + ‖y‖²).
    """
    shrink = 1 - 4 * torch.finfo(rows.dtype).eps
    squares = torch.addmm(shrink * other_norms, rows, others.T, alpha=-2)
    return squares.add_((shrink * row_norms)[:, None]).clamp_(min=0)
