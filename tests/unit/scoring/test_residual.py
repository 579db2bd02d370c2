import numpy as np
import pytest

from pipeline.errors import RefusedError
from pipeline.records import Float64s, Outputs
from pipeline.scoring.energy import score_logits
from pipeline.scoring.residual import (
    EnergyResidualScore,
    candidate_dimensions,
    fit_residual_spaces,
    origin_of_head,
    origin_of_outputs,
    residual_norms,
)

D, K = 12, 4


def head() -> tuple[Float64s, Float64s]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(K, D)), rng.normal(size=K) + 3


def outputs(n: int, seed: int = 1, spread: float = 0.05) -> Outputs:
    """Features in a plane of three dimensions through the origin of the head, and a little beside it."""
    weight, bias = head()
    rng = np.random.default_rng(seed)
    plane = np.linalg.qr(np.random.default_rng(7).normal(size=(D, 3)))[0]
    z = origin_of_head(weight, bias) + (rng.normal(size=(n, 3)) * 5) @ plane.T + spread * rng.normal(size=(n, D))
    return Outputs((z @ weight.T + bias).astype(np.float32), z.astype(np.float32))


def test_the_head_maps_its_origin_to_zero() -> None:
    weight, bias = head()
    np.testing.assert_allclose(weight @ origin_of_head(weight, bias) + bias, 0, atol=1e-12)


def test_the_origin_is_found_from_outputs_alone() -> None:
    np.testing.assert_allclose(origin_of_outputs(outputs(200, spread=1.0)), origin_of_head(*head()), atol=1e-5)


def test_logits_that_are_no_linear_function_of_the_features_are_refused() -> None:
    good = outputs(200)
    with pytest.raises(RefusedError, match="no linear function"):
        origin_of_outputs(Outputs(good.logits**2, good.features))


def test_the_score_is_the_formula() -> None:
    fitting = outputs(300)
    space = fit_residual_spaces(fitting, origin_of_head(*head()), (3,))[3]
    some = outputs(20, seed=2, spread=1.0)
    z = some.features.astype(np.float64) - space.origin
    centred = fitting.features.astype(np.float64) - space.origin
    beyond = np.linalg.eigh(centred.T @ centred)[1][:, :-3]  # N: all but the three largest
    expected = np.linalg.norm(z @ beyond, axis=1)
    np.testing.assert_allclose(residual_norms(some.features, space), expected, rtol=1e-9)
    scored = EnergyResidualScore(space)(some)
    np.testing.assert_allclose(scored.score, score_logits(some).energy + space.scale * expected, rtol=1e-9)
    np.testing.assert_array_equal(scored.energy, score_logits(some).energy)


def test_both_terms_are_of_the_same_order_on_the_fitting_images() -> None:
    fitting = outputs(300)
    space = fit_residual_spaces(fitting, origin_of_head(*head()), (3,))[3]
    mean = (space.scale * residual_norms(fitting.features, space)).mean()
    assert mean == pytest.approx(fitting.logits.max(axis=1).mean(), rel=1e-5)


def test_leaving_the_space_raises_the_score_and_moving_inside_does_not() -> None:
    space = fit_residual_spaces(outputs(300), origin_of_head(*head()), (3,))[3]
    start = space.origin.astype(np.float32)[None]
    inside = start + 5 * space.axes[:, 0].astype(np.float32)
    beside = np.linalg.svd(space.axes, full_matrices=True)[0][:, 3].astype(np.float32)
    assert residual_norms(inside, space)[0] == pytest.approx(0, abs=1e-5)
    assert residual_norms(start + 5 * beside, space)[0] == pytest.approx(5, rel=1e-5)


def test_scores_of_one_batch_do_not_depend_on_its_neighbours() -> None:
    score = EnergyResidualScore(fit_residual_spaces(outputs(300), origin_of_head(*head()), (3,))[3])
    some = outputs(9, seed=4)
    alone = [score(Outputs(some.logits[i : i + 1], some.features[i : i + 1])).score[0] for i in range(9)]
    np.testing.assert_allclose(score(some).score, alone, rtol=1e-12)
    assert score(Outputs(np.empty((0, K), np.float32), np.empty((0, D), np.float32))).score.shape == (0,)


def test_candidates_are_an_eighth_a_quarter_and_a_half() -> None:
    assert candidate_dimensions(64) == (8, 16, 32)
    assert candidate_dimensions(4) == (1, 2)
    assert candidate_dimensions(2) == (1,)


def test_numbers_of_dimensions_that_leave_nothing_are_left_out() -> None:
    flat = outputs(100, spread=0)
    assert list(fit_residual_spaces(flat, origin_of_head(*head()), (2, 3, 6))) == [2]
    assert list(fit_residual_spaces(outputs(5), origin_of_head(*head()), (3, 6))) == [3]


def test_what_cannot_be_fitted_is_refused_with_a_reason() -> None:
    origin = origin_of_head(*head())
    with pytest.raises(RefusedError, match="5 fitting images leave nothing beyond 6 of 12"):
        fit_residual_spaces(outputs(5), origin, (6,))
    with pytest.raises(RefusedError, match="below 12"):
        fit_residual_spaces(outputs(50), origin, (12,))
    some = outputs(50)
    with pytest.raises(RefusedError, match="--score energy"):
        fit_residual_spaces(Outputs(some.logits - 1000, some.features), origin, (3,))
