import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import RefusedError
from pipeline.scoring.energy_bounded import EnergyBounds, energy_bounded_loss, own_bounds

GOLDEN = Path(__file__).parents[2] / "golden" / "energy_bounded_loss.json"


def _golden() -> tuple[dict[str, torch.Tensor], EnergyBounds, dict[str, float]]:
    values = json.loads(GOLDEN.read_text())
    tensors = {
        name: torch.tensor(value, dtype=torch.int64 if name == "y" else torch.float64)
        for name, value in values.items()
        if isinstance(value, list)
    }
    numbers = {name: value for name, value in values.items() if not isinstance(value, list)}
    return tensors, EnergyBounds(numbers["m_in"], numbers["m_out"], numbers["weight"]), numbers


def test_value_and_gradients_are_those_of_the_authors_code() -> None:
    tensors, bounds, expected = _golden()
    inside, outside = tensors["logits_in"].requires_grad_(), tensors["logits_out"].requires_grad_()
    terms = energy_bounded_loss(inside, tensors["y"], outside, bounds)
    assert float(terms.cross_entropy.detach()) == pytest.approx(expected["ce"], abs=1e-9)
    assert float((terms.hinge_in + terms.hinge_out).detach()) == pytest.approx(expected["reg"], abs=1e-9)
    assert float(terms.total.detach()) == pytest.approx(expected["loss"], abs=1e-9)
    gradients = torch.autograd.grad(terms.total, (inside, outside))
    assert float((gradients[0] - tensors["grad_in"]).abs().max()) < 1e-9
    assert float((gradients[1] - tensors["grad_out"]).abs().max()) < 1e-9


def test_hinges_are_nothing_inside_the_margins_and_squared_beyond_them() -> None:
    def logits(energy: float) -> torch.Tensor:
        return torch.full((4, 10), -energy - float(np.log(10)), dtype=torch.float64)

    bounds, labels = EnergyBounds(-23, -5), torch.zeros(4, dtype=torch.int64)
    at_rest = energy_bounded_loss(logits(-23), labels, logits(-5), bounds)
    assert float(at_rest.hinge_in + at_rest.hinge_out) == pytest.approx(0, abs=1e-20)
    beyond = energy_bounded_loss(logits(-20), labels, logits(-8), bounds)
    assert float(beyond.hinge_in) == pytest.approx(9)
    assert float(beyond.hinge_out) == pytest.approx(9)


def test_without_outliers_the_loss_is_that_of_the_normal_images() -> None:
    terms = energy_bounded_loss(torch.ones(2, 3), torch.tensor([0, 1]), torch.empty(0, 3), EnergyBounds(-9, 9, 0.5))
    assert float(terms.hinge_out) == 0
    energy = -1 - np.log(3)
    assert float(terms.total) == pytest.approx(np.log(3) + 0.5 * (energy + 9) ** 2)


@pytest.mark.parametrize(("m_in", "m_out"), [(-5.0, -23.0), (-5.0, -5.0), (float("nan"), 0.0)])
def test_margins_in_the_wrong_order_are_refused(m_in: float, m_out: float) -> None:
    with pytest.raises(RefusedError, match="wrong order"):
        EnergyBounds(m_in, m_out)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(RefusedError, match="0 or more"):
        EnergyBounds(-1, 1, -0.1)


def test_default_margins_come_from_the_models_own_energies() -> None:
    bounds = own_bounds(np.array([-9.0, -11.0]), np.array([-4.0, -6.0]), m_in=None, m_out=None, weight=0.1)
    assert (bounds.m_in, bounds.m_out) == (-11.0, -2.0)


def test_outliers_below_normal_images_still_get_margins_in_order() -> None:
    bounds = own_bounds(np.array([-10.0]), np.array([-30.0]), m_in=None, m_out=None, weight=0.1)
    assert (bounds.m_in, bounds.m_out) == (-11.0, -7.0)


def test_given_margins_are_taken_as_they_are() -> None:
    bounds = own_bounds(np.array([-10.0]), np.array([-3.0]), m_in=-23.0, m_out=-5.0, weight=0.2)
    assert bounds == EnergyBounds(-23.0, -5.0, 0.2)
