"""Energy: how unusual one image is to the classifier."""

import numpy as np
import torch
from torch import Tensor

from pipeline.records import Outputs, Scores


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The free energy of each row. Higher is more unusual.

        E(x; T) = −T · log Σ_k exp(f_k(x) / T)

    Args:
        logits: f(x), shape (N, K), float, before softmax.
        temperature: T > 0, dimensionless; 1 in the paper.

    Returns:
        Shape (N,), nats, dtype of `logits`; −max_k f_k − T log K ≤ E ≤ −max_k f_k.

    An unfamiliarity score, no probability: adding one constant to all logits of an image changes E
    and leaves the softmax alone.

    Source: Liu et al. 2020, "Energy-based Out-of-distribution Detection", arXiv:2010.03759, eq. 4.
    The authors' code (wetliu/energy_ood, CIFAR/test.py) scores with this same E; the paper's text
    thresholds −E.
    """
    return -temperature * torch.logsumexp(logits / temperature, dim=1)


def score_logits(outputs: Outputs, temperature: float = 1.0) -> Scores:
    """Energy, maximum softmax probability, class and finite check of each row, in one pass.

    In float64, as float32 logits of ±1e4 and temperatures of 1,000 need it; it costs microseconds.
    msp = exp(max f − log Σ exp f) is always at temperature 1. A row is finite where all its logits
    and features are; the others' numbers mean nothing.
    """
    logits = torch.from_numpy(outputs.logits).double()
    if logits.shape[0] == 0:
        nothing = np.empty(0)
        return Scores(nothing, nothing, nothing, np.empty(0, np.int64), np.empty(0, np.bool_))
    top, class_index = logits.max(dim=1)
    at_one = energy(logits)
    energies = at_one if temperature == 1.0 else energy(logits, temperature)
    finite = torch.isfinite(logits).all(dim=1).numpy() & np.isfinite(outputs.features).all(axis=1)
    values = energies.numpy()
    return Scores(
        energy=values,
        score=values,
        msp=torch.exp(top + at_one).numpy(),
        class_index=class_index.numpy(),
        finite=finite,
    )
