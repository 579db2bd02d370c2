import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import Outputs
from pipeline.scoring.energy import energy, score_logits

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "energy_vectors.json").read_text())
fixed = settings(derandomize=True, deadline=None, max_examples=60)
seeds = st.integers(0, 10_000)
temperatures = st.sampled_from([0.1, 0.5, 1.0, 2.0, 10.0, 1000.0])


def logits(seed: int) -> torch.Tensor:
    return torch.randn(8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 5


@pytest.mark.parametrize("vector", VECTORS)
def test_golden_vectors(vector: dict[str, object]) -> None:
    row = torch.tensor([vector["logits"]], dtype=torch.float64)
    assert energy(row, float(str(vector["T"]))).item() == pytest.approx(vector["energy"], abs=1e-9, rel=1e-12)
    log_msp = (energy(row) + row.max()).item()
    assert log_msp == pytest.approx(vector["log_msp"], abs=1e-9)


@fixed
@given(seeds, temperatures)
def test_adding_a_constant_to_the_logits_subtracts_it_from_the_energy(seed: int, temperature: float) -> None:
    torch.testing.assert_close(energy(logits(seed) + 7, temperature), energy(logits(seed), temperature) - 7)


@fixed
@given(seeds, temperatures)
def test_energy_lies_between_its_bounds(seed: int, temperature: float) -> None:
    f = logits(seed)
    top = f.max(1).values
    e = energy(f, temperature)
    assert bool((e <= -top + 1e-9).all())
    assert bool((e >= -top - temperature * np.log(10) - 1e-9).all())


@fixed
@given(seeds, temperatures)
def test_temperature_scales_the_logits_and_the_energy(seed: int, temperature: float) -> None:
    torch.testing.assert_close(energy(logits(seed), temperature), temperature * energy(logits(seed) / temperature))


@fixed
@given(seeds)
def test_the_gradient_of_the_energy_is_minus_the_softmax(seed: int) -> None:
    f = logits(seed).requires_grad_()
    (gradient,) = torch.autograd.grad(energy(f).sum(), f)
    torch.testing.assert_close(gradient, -torch.softmax(f, 1))


def test_equal_logits_give_minus_log_the_number_of_classes() -> None:
    torch.testing.assert_close(energy(torch.zeros(1, 4)), torch.tensor([-np.log(4)], dtype=torch.float32))


def test_huge_float32_logits_do_not_overflow() -> None:
    scores = score_logits(Outputs(np.array([[1e4, 0.0]], np.float32), np.zeros((1, 1), np.float32)))
    assert scores.energy[0] == -10_000
    assert scores.msp[0] == 1.0


def test_msp_is_the_softmax_at_temperature_one_whatever_the_energy_uses() -> None:
    f = logits(3).float().numpy()
    for temperature in (1.0, 10.0):
        scores = score_logits(Outputs(f, f), temperature)
        expected = torch.softmax(torch.from_numpy(f).double(), 1).max(1)
        np.testing.assert_allclose(scores.msp, expected.values)
        np.testing.assert_array_equal(scores.class_index, expected.indices)


def test_a_row_that_is_not_finite_is_marked_and_its_neighbours_are_not() -> None:
    f = logits(1).float().numpy()
    f[2, 3] = np.nan
    f[5, 0] = np.inf
    features = np.zeros((8, 2), np.float32)
    features[7, 1] = -np.inf
    assert np.flatnonzero(~score_logits(Outputs(f, features)).finite).tolist() == [2, 5, 7]


def test_no_rows_give_no_scores() -> None:
    scores = score_logits(Outputs(np.empty((0, 3), np.float32), np.empty((0, 2), np.float32)))
    assert scores.energy.shape == scores.finite.shape == (0,)
