"""Last-layer retraining on balanced groups: features → a new head. Pure: no I/O, no clock, no global randomness.

    rows of R resamples, each group as large as the smallest
      → multinomial logistic regression on standardised features, perhaps with energy bounds
      → mean of the R heads, the scaler folded in, the old head's gauge

Source: Kirichenko et al. 2023, "Last Layer Re-Training is Sufficient for Robustness to Spurious
Correlations", arXiv:2204.02937 (DFR). Departures from the authors' code (PolinaKirichenko/
deep_feature_reweighting), which handles two classes: the loss is multinomial with an L2 penalty instead of
liblinear's L1; one scaler, of the fitting rows, serves the choice of the strength and the fits; the
intercept is not penalised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from pipeline.records import Float64s, Ints
from pipeline.scoring.energy_bounded import EnergyBounds, energy_bounded_loss
from pipeline.training.groups import Rows, balanced_rows, group_accuracies, hold_out, worst

STRENGTHS = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
RESAMPLES = 10
_MAX_ITERATIONS = 300


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """logits = W z + b."""

    weight: Float64s  # W, (K, D)
    bias: Float64s  # b, (K,)

    def logits(self, features: Float64s) -> Float64s:
        """(N, K) of features (N, D)."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """z ↦ (z − μ) / σ; units that never vary keep σ = 1."""

    mean: Float64s
    deviation: Float64s

    def __call__(self, features: Float64s) -> Float64s:
        """Standardised features, (N, D)."""
        return (features - self.mean) / self.deviation

    def fold(self, head: Head) -> Head:
        """The head on raw features that equals `head` on standardised ones."""
        weight = head.weight / self.deviation
        return Head(weight, head.bias - weight @ self.mean)

    def unfold(self, head: Head) -> Head:
        """The head on standardised features that equals `head` on raw ones."""
        return Head(head.weight * self.deviation, head.bias + head.weight @ self.mean)


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """Features (M, D) of images that are none of the classes, and how far their energies are to be kept away."""

    features: Float64s
    bounds: EnergyBounds


@dataclass(frozen=True, slots=True, eq=False)
class Retrained:
    """The new head on raw features, and the strength that was taken."""

    head: Head
    strength: float  # C: the inverse of the L2 penalty, as scikit-learn counts it


def retrain(
    rows: Rows,
    old: Head,
    *,
    rng: np.random.Generator,
    strengths: Sequence[float] = STRENGTHS,
    resamples: int = RESAMPLES,
    outliers: Outliers | None = None,
    intercept: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> Retrained:
    """The new head of labelled features.

    Args:
        rows: every group of them counts equally. What the report is made of must not be among them.
        strengths: C, descending; of several the one of best worst-group accuracy is taken.
        outliers: raw features with their bounds; they decide about the gauge, which is then not restored.
        intercept: False for a head that has none.
        progress: told of each fit that is done.
    """
    scaler = fit_scaler(rows.features, centre=intercept)
    scaled = Rows(scaler(rows.features), rows.labels, rows.groups, rows.names)
    start = scaler.unfold(old)
    strength = strengths[0]
    if len(strengths) > 1:
        strength = _best_strength(scaled, start, strengths, resamples, intercept, rng, progress)
    far = None if outliers is None else Outliers(scaler(outliers.features), outliers.bounds)
    heads = []
    for _ in range(resamples):
        chosen = scaled.take(balanced_rows(scaled.groups, rng))
        heads.append(fit_head(chosen.features, chosen.labels, start, strength, outliers=far, intercept=intercept))
        progress(1)
    head = scaler.fold(mean_head(heads))
    bounded = outliers is not None and outliers.bounds.weight > 0
    return Retrained(head if bounded else with_gauge_of(head, old), strength)


def _best_strength(
    rows: Rows,
    start: Head,
    strengths: Sequence[float],
    resamples: int,
    intercept: bool,
    rng: np.random.Generator,
    progress: Callable[[int], None],
) -> float:
    """Half of every group fits, the other half judges: the mean over the resamples of the worst group's accuracy."""
    fitting, judging = (rows.take(part) for part in hold_out(rows.groups, 0.5, rng))
    found = np.zeros(len(strengths))
    for _ in range(resamples):
        chosen = fitting.take(balanced_rows(fitting.groups, rng))
        head = start
        for i, strength in enumerate(strengths):  # each fit starts where the one before ended
            head = fit_head(chosen.features, chosen.labels, head, strength, intercept=intercept)
            right = head.logits(judging.features).argmax(axis=1) == judging.labels
            found[i] += worst(group_accuracies(right, judging.groups))
            progress(1)
    return strengths[int(found.argmax())]


def mean_head(heads: Sequence[Head]) -> Head:
    """Of heads on the same features: the mean of W and of b."""
    return Head(np.mean([head.weight for head in heads], axis=0), np.mean([head.bias for head in heads], axis=0))


def fit_scaler(features: Float64s, *, centre: bool = True) -> Scaler:
    """Of the rows that a head is fitted on; without `centre` for a head that has no intercept."""
    deviation = features.std(axis=0)
    mean = features.mean(axis=0) if centre else np.zeros(features.shape[1])
    return Scaler(mean, np.where(deviation > 1e-12, deviation, 1.0))


def fit_head(
    features: Float64s,
    labels: Ints,
    start: Head,
    strength: float,
    *,
    outliers: Outliers | None = None,
    intercept: bool = True,
) -> Head:
    """Minimise CE + λ · energy hinges + ‖W‖² / (2 C n), from `start`, by SciPy's L-BFGS-B in float64.

    Without outliers it is convex and the same optimum as scikit-learn's LogisticRegression(C=C).
    """
    n_classes, width = start.weight.shape
    z, y = torch.from_numpy(features), torch.from_numpy(labels)
    far = torch.from_numpy(np.empty((0, width)) if outliers is None else outliers.features)
    bounds = EnergyBounds(-1.0, 0.0, weight=0.0) if outliers is None else outliers.bounds

    def loss(flat: Float64s) -> tuple[float, Float64s]:
        parameters = torch.from_numpy(flat).requires_grad_()
        weight, bias = parameters[: n_classes * width].view(n_classes, width), parameters[n_classes * width :]
        shift = bias if intercept else bias * 0
        terms = energy_bounded_loss(z @ weight.T + shift, y, far @ weight.T + shift, bounds)
        value = terms.total + weight.square().sum() / (2 * strength * len(z))
        (gradient,) = torch.autograd.grad(value, parameters)
        return float(value.detach()), gradient.numpy()

    found = minimize(
        loss,
        np.concatenate([start.weight.ravel(), start.bias]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS, "gtol": 1e-5, "ftol": 1e-9, "maxcor": 10},
    )
    return Head(found.x[: n_classes * width].reshape(n_classes, width).copy(), found.x[n_classes * width :].copy())


def with_gauge_of(head: Head, old: Head) -> Head:
    """The same softmax, with the old head's mean over the classes of W and of b.

    One vector v added to every class leaves all probabilities alone and moves every energy by −v·z: which
    of the equal heads a solver finds must not decide about energies.
    """
    return Head(
        head.weight - head.weight.mean(axis=0) + old.weight.mean(axis=0), head.bias - head.bias.mean() + old.bias.mean()
    )
