"""What the energy must satisfy whatever the logits: 1,000 rows of 10 classes in float64, to 1e-9."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pipeline.scoring.energy import energy

F = torch.randn(1000, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
TOP = F.max(dim=1).values
TEMPERATURES = (0.5, 1.0, 2.0, 10.0, 1000.0)


def largest(difference: torch.Tensor) -> float:
    return float(difference.abs().max())


def test_the_log_of_the_maximum_softmax_is_energy_plus_the_largest_logit() -> None:
    assert largest(torch.log_softmax(F, 1).max(1).values - (energy(F) + TOP)) < 1e-9


def test_cross_entropy_is_minus_the_true_logit_minus_the_energy() -> None:
    labels = torch.arange(1000) % 10
    loss = cross_entropy(F, labels, reduction="none")
    assert largest(loss - (-F[torch.arange(1000), labels] - energy(F))) < 1e-9


def test_a_common_offset_moves_the_energy_and_not_the_softmax() -> None:
    assert largest(energy(F + 3.7) - (energy(F) - 3.7)) < 1e-9
    assert largest(torch.softmax(F + 3.7, 1) - torch.softmax(F, 1)) < 1e-9


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_bounds_and_homogeneity_hold_at_every_temperature(temperature: float) -> None:
    e = energy(F, temperature)
    assert bool((e <= -TOP + 1e-9).all())
    assert bool((e >= -TOP - temperature * np.log(10) - 1e-9).all())
    assert largest(e - temperature * energy(F / temperature)) < 1e-9


def test_energy_falls_as_the_temperature_rises() -> None:
    energies = torch.stack([energy(F, temperature) for temperature in TEMPERATURES])
    assert bool((energies.diff(dim=0) <= 1e-9).all())


def test_the_limits_are_the_largest_and_the_mean_logit() -> None:
    assert largest(energy(F, 1e-3) + TOP) < 5e-4
    assert largest(energy(F, 1e6) + 1e6 * np.log(10) + F.mean(1)) < 1e-4


def test_the_order_of_the_classes_does_not_matter() -> None:
    assert largest(energy(F[:, torch.randperm(10, generator=torch.Generator().manual_seed(1))]) - energy(F)) < 1e-9


def test_gradients_are_the_softmax() -> None:
    f = F.clone().requires_grad_()
    (of_energy,) = torch.autograd.grad(energy(f).sum(), f)
    assert largest(of_energy + torch.softmax(F, 1)) < 1e-9
    (of_loss,) = torch.autograd.grad(cross_entropy(f, torch.zeros(1000, dtype=torch.int64), reduction="sum"), f)
    expected = torch.softmax(F, 1)
    expected[:, 0] -= 1
    assert largest(of_loss - expected) < 1e-9


def test_equal_logits_and_a_single_class_have_closed_forms() -> None:
    assert largest(energy(torch.full((5, 7), 2.5, dtype=torch.float64)) + 2.5 + np.log(7)) < 1e-9
    assert largest(energy(F[:, :1]) + F[:, 0]) < 1e-9


def test_the_mean_logit_plus_energy_is_minus_the_cross_entropy_to_uniform() -> None:
    to_uniform = -torch.log_softmax(F, 1).mean(1)
    assert largest(F.mean(1) + energy(F) + to_uniform) < 1e-9


def test_huge_float32_logits_stay_finite() -> None:
    row = torch.tensor([[1e4, 0.0]])
    assert energy(row).item() == -10_000
    assert torch.isinf(-torch.log(torch.exp(row).sum())).item()
