"""Energy + residual: the energy, and how far the features leave the space that normal images fill.

    S(x) = E(x; T) + α ‖r(x)‖,   r(x) = (z − o) − P Pᵀ (z − o)

z are the features, o = −pinv(W) b the point that the head (logits = W z + b) maps to zero, P the d axes of
largest second moment about o, and α = mean max-logit / mean ‖r‖ on the fitting images, so that both terms
are in nats and of the same order. Higher is more unusual, as for the energy.

Source: ViM (Wang et al. 2022, "ViM: Out-Of-Distribution with Virtual-logit Matching", arXiv:2203.10807) in
its log form: their score is a softmax of a virtual logit α‖r‖, and log(1/softmax) behaves like S. What
shapes the score (o, P, α) must come from images that the threshold's quantile does not use.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RefusedError
from pipeline.records import Float32s, Float64s, Outputs, ResidualSpace, Scores
from pipeline.scoring.energy import score_logits


def candidate_dimensions(features: int) -> tuple[int, ...]:
    """D/8, D/4 and D/2, without repeats, at least 1 and below D; ViM's own choice below 768 features is D/2."""
    sizes = {min(max(1, features // part), features - 1) for part in (8, 4, 2)}
    return tuple(sorted(size for size in sizes if size >= 1))


def origin_of_head(weight: Float64s, bias: Float64s) -> Float64s:
    """o = −pinv(W) b, shape (D,), of W (K, D) and b (K,)."""
    origin: Float64s = -np.linalg.pinv(np.asarray(weight, np.float64)) @ np.asarray(bias, np.float64)
    return origin


def origin_of_outputs(outputs: Outputs) -> Float64s:
    """The same where the head itself is not at hand: W and b by least squares of logits on features.

    Raises RefusedError where the logits are no linear function of the features.
    """
    z = np.column_stack([outputs.features, np.ones(len(outputs.features))]).astype(np.float64)
    f = outputs.logits.astype(np.float64)
    solution = np.linalg.lstsq(z, f, rcond=1e-9)[0].astype(np.float64)
    error, scale = np.abs(z @ solution - f).max(), np.abs(f).max()
    if error > 1e-2 * max(scale, 1.0):
        raise RefusedError(
            f"the logits are no linear function of the features (off by {error:.3g}): the residual needs the input of"
            " the last linear layer as `features`"
        )
    return origin_of_head(solution[:-1].T, solution[-1])


def fit_residual_spaces(
    outputs: Outputs, origin: Float64s | None, dimensions: tuple[int, ...]
) -> dict[int, ResidualSpace]:
    """The space of each of several numbers of dimensions d, from one set of fitting images.

    A d is left out where there are no more images than d, or where nothing lies beyond d axes, as in a
    layer whose other units are dead.

    Args:
        outputs: of n fitting images.
        origin: o, shape (D,); None: found from the outputs.

    Raises RefusedError where no d is left, where the largest logits are not positive on average, or where
    there is no o to be found.
    """
    n, width = outputs.features.shape
    for d in dimensions:
        if not 1 <= d < width:
            raise RefusedError(f"--residual-dimensions {d}: must be at least 1 and below {width}, the features' number")
    top = float(outputs.logits.max(axis=1).astype(np.float64).mean()) if n else 0.0
    if top <= 0:
        raise RefusedError(
            f"energy + residual cannot be scaled: the largest logit is {top:.3g} on average over {n} fitting images, it"
            " must be above 0; use --score energy"
        )
    origin = origin_of_outputs(outputs) if origin is None else origin
    centred = outputs.features.astype(np.float64) - origin
    _, axes = np.linalg.eigh(centred.T @ centred / n)
    spaces: dict[int, ResidualSpace] = {}
    for d in dimensions:
        principal = np.ascontiguousarray(axes[:, ::-1][:, :d])
        norms = residual_norms(outputs.features, ResidualSpace(origin, principal, 1.0))
        if n > d and norms.mean() > 1e-6 * np.abs(centred).max():
            spaces[d] = ResidualSpace(origin, principal, top / float(norms.mean()))
    if not spaces:
        raise RefusedError(
            f"{n} fitting images leave nothing beyond {min(dimensions)} of {width} dimensions: give more images, or a"
            " smaller --residual-dimensions"
        )
    return spaces


def residual_norms(features: Float32s, space: ResidualSpace) -> Float64s:
    """‖(z − o) − P Pᵀ (z − o)‖ of each row, shape (N,), in the features' own unit."""
    return _norms(torch.from_numpy(features), torch.from_numpy(space.origin), torch.from_numpy(space.axes))


class EnergyResidualScore:
    """S of a batch, as the worker scores it. P and o stay on the device: beside a GPU, a CPU would be slow."""

    def __init__(self, space: ResidualSpace, temperature: float = 1.0, device: str | torch.device = "cpu") -> None:
        self._temperature = temperature
        self._scale = space.scale
        self._origin = torch.from_numpy(space.origin).to(device)
        self._axes = torch.from_numpy(space.axes).to(device)

    def __call__(self, outputs: Outputs) -> Scores:
        """Energy and S of each row, with msp, class and finite check."""
        plain = score_logits(outputs, self._temperature)
        features = torch.from_numpy(outputs.features).to(self._origin.device)
        return replace(plain, score=plain.energy + self._scale * _norms(features, self._origin, self._axes))


def _norms(features: Tensor, origin: Tensor, axes: Tensor) -> Float64s:
    centred = features.double() - origin
    residual = centred - (centred @ axes) @ axes.T
    norms: Float64s = torch.linalg.vector_norm(residual, dim=1).cpu().numpy()
    return norms
