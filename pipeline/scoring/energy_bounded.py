"""The energy-bounded loss: right answers, low energies for normal images, high ones for outliers.

    L = CE + λ [ mean_in max(0, E − m_in)² + mean_out max(0, m_out − E)² ],   m_in < m_out,   T = 1

Source: Liu et al. 2020, "Energy-based Out-of-distribution Detection", arXiv:2010.03759, eq. 7-9, with λ = 0.1;
the authors' code (wetliu/energy_ood, CIFAR/train.py) is followed where the text swaps the margins' ranges.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from pipeline.errors import RefusedError
from pipeline.records import Float64s
from pipeline.scoring.energy import energy

WEIGHT = 0.1  # λ in the paper
MIN_OUTLIERS = 40  # to learn from and to judge by
BELOW_NORMAL, ABOVE_OUTLIERS = 1.0, 3.0  # nats, of the default margins


@dataclass(frozen=True, slots=True)
class EnergyBounds:
    """m_in and m_out in nats, and λ >= 0. Raises RefusedError for margins in the wrong order."""

    m_in: float
    m_out: float
    weight: float = WEIGHT

    def __post_init__(self) -> None:
        """Compare the margins."""
        if not self.m_in < self.m_out:
            raise RefusedError(
                f"margins m_in {self.m_in:g} and m_out {self.m_out:g} are in the wrong order: energy is low for normal"
                " images, so m_in must be below m_out, as -23 and -5 in the paper"
            )
        if not self.weight >= 0:
            raise RefusedError(f"weight {self.weight:g} of the energy bounds: must be 0 or more, 0.1 in the paper")


class LossTerms(NamedTuple):
    """The loss and what it consists of; scalars, but for the energies (N,) and (M,)."""

    total: Tensor
    cross_entropy: Tensor
    hinge_in: Tensor
    hinge_out: Tensor
    energy_in: Tensor
    energy_out: Tensor


def energy_bounded_loss(logits_in: Tensor, labels: Tensor, logits_out: Tensor, bounds: EnergyBounds) -> LossTerms:
    """The loss of N normal images and M outliers; their two means are separate, so N and M need not match.

    Args:
        logits_in: (N, K), float. labels: (N,), int. logits_out: (M, K); M = 0 leaves its hinge out.
    """
    energy_in, energy_out = energy(logits_in), energy(logits_out)
    cross_entropy = functional.cross_entropy(logits_in, labels)
    hinge_in = functional.relu(energy_in - bounds.m_in).square().mean()
    hinge_out = functional.relu(bounds.m_out - energy_out).square().sum() / max(1, len(energy_out))
    total = cross_entropy + bounds.weight * (hinge_in + hinge_out)
    return LossTerms(total, cross_entropy, hinge_in, hinge_out, energy_in, energy_out)


def own_bounds(
    normal: Float64s, outliers: Float64s, *, m_in: float | None, m_out: float | None, weight: float
) -> EnergyBounds:
    """Margins that are given, and else made of the model's own energies before the repair.

        m_in = mean E(normal) − 1,   m_out = max(mean E(outliers), mean E(normal)) + 3

    The paper's −23 and −5 belong to its own networks: elsewhere they move the scale of all energies and
    cost accuracy. One nat below and three above ask for a little more than the model does already; and
    outliers that lie below normal images, as upside-down ones may, are asked to come above them.
    """
    top = float(max(outliers.mean(), normal.mean()))
    return EnergyBounds(
        m_in=float(normal.mean()) - BELOW_NORMAL if m_in is None else m_in,
        m_out=top + ABOVE_OUTLIERS if m_out is None else m_out,
        weight=weight,
    )
