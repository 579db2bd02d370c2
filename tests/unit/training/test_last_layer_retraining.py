"""Acceptance figures: 10 digits on two backgrounds, 97 % of a class on its own (64 features of a small CNN), and
40 Gaussian features that follow the group more than the class; both from the papers' published procedure."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.records import Float64s, Ints
from pipeline.scoring.energy_bounded import own_bounds
from pipeline.scoring.evaluation import auroc
from pipeline.shift.threshold import conformal_threshold
from pipeline.training.groups import Rows, group_accuracies, hold_out, make_rows, worst
from pipeline.training.head_report import energies_of, report
from pipeline.training.last_layer_retraining import (
    Head,
    Outliers,
    fit_head,
    fit_scaler,
    mean_head,
    retrain,
    with_gauge_of,
)
from tests.shared_data import vectors


@dataclass
class Digits:
    old: Head
    fit: Rows
    test: Rows
    ood: dict[str, Float64s]


def rows(arrays: dict[str, NDArray[np.generic]], part: str) -> Rows:
    labels: Ints = arrays[f"{part}_y"].astype(np.int64)
    classes = [str(name) for name in range(int(labels.max()) + 1)]
    attributes = [str(group) for group in arrays[f"{part}_g"].tolist()]
    return make_rows(arrays[f"{part}_x"].astype(np.float64), labels, attributes, classes, drop_small=False)[0]


@pytest.fixture(scope="module")
def digits() -> Digits:
    with np.load(vectors("dfr_digits_10class.npz")) as file:
        arrays = dict(file)
    old = Head(arrays["head_w"].astype(np.float64), arrays["head_b"].astype(np.float64))
    ood = {name: arrays[f"ood_{name}"].astype(np.float64) for name in ("blue", "noise", "inverted")}
    return Digits(old, rows(arrays, "val"), rows(arrays, "test"), ood)


def accuracies(head: Head, held: Rows) -> tuple[float, float]:
    right = head.logits(held.features).argmax(axis=1) == held.labels
    return worst(group_accuracies(right, held.groups)), float(right.mean())


def separates(head: Head, held: Rows, outliers: Float64s) -> float:
    return auroc(np.sort(energies_of(head, held.features)), np.sort(energies_of(head, outliers)))


def random_rows(n: int = 400, *, width: int = 8, seed: int = 0) -> tuple[Rows, Head]:
    """Three classes; feature 0 tells the background apart, which nearly tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    background = np.where(rng.random(n) < 0.8, labels % 2, 1 - labels % 2)
    features = rng.normal(size=(n, width)) + 1.5 * np.eye(3, width)[labels]
    features[:, 0] += 4.0 * background
    made = make_rows(features * 3 + 5, labels, [f"bg{b}" for b in background], ["a", "b", "c"], drop_small=False)[0]
    return made, Head(rng.normal(size=(3, width)), rng.normal(size=3))


# Acceptance 1
def test_gaussian_groups_reach_the_published_worst_group() -> None:
    with np.load(vectors("dfr_gauss40.npz")) as file:
        arrays = dict(file)
    fit, test = rows(arrays, "val"), rows(arrays, "test")
    found = retrain(fit, Head(np.zeros((2, 40)), np.zeros(2)), rng=np.random.default_rng(0))
    assert accuracies(found.head, test)[0] >= 0.80


# Acceptance 1
@pytest.mark.parametrize("seed", range(5))
def test_ten_digits_reach_the_published_worst_group_and_mean(digits: Digits, seed: int) -> None:
    found = retrain(digits.fit, digits.old, rng=np.random.default_rng(seed), strengths=(1.0,))
    worst_group, mean = accuracies(found.head, digits.test)
    assert worst_group >= 0.80
    assert mean >= 0.93
    assert accuracies(digits.old, digits.test) == pytest.approx((0.2174, 0.8783), abs=1e-4)


# Acceptance 2
def test_the_folded_head_on_raw_features_equals_the_fit_on_scaled_ones() -> None:
    made, old = random_rows()
    scaler = fit_scaler(made.features)
    scaled = fit_head(scaler(made.features), made.labels, scaler.unfold(old), 1.0)
    assert np.abs(scaler.fold(scaled).logits(made.features) - scaled.logits(scaler(made.features))).max() < 1e-5
    back = scaler.fold(scaler.unfold(old))
    assert np.abs(back.logits(made.features) - old.logits(made.features)).max() < 1e-10


# Acceptance 3
def test_the_gauge_leaves_the_softmax_alone_and_keeps_the_old_heads_mean_over_the_classes() -> None:
    made, old = random_rows()
    raw = Head(np.random.default_rng(1).normal(size=(3, 8)), np.array([1.0, 2.0, 4.0]))
    fixed = with_gauge_of(raw, old)
    difference = softmax(fixed.logits(made.features), axis=1) - softmax(raw.logits(made.features), axis=1)
    assert np.abs(difference).max() < 1e-6
    assert np.abs(fixed.weight.mean(axis=0) - old.weight.mean(axis=0)).max() < 1e-12
    assert fixed.bias.mean() == pytest.approx(old.bias.mean(), abs=1e-12)
    assert np.abs(energies_of(fixed, made.features) - energies_of(raw, made.features)).max() > 1


# Acceptance 4
def test_a_new_head_needs_its_own_threshold(digits: Digits) -> None:
    kept, held = hold_out(digits.fit.groups, 0.3, np.random.default_rng(0))
    found = retrain(digits.fit.take(kept), digits.old, rng=np.random.default_rng(0), strengths=(0.1,))
    calibration = digits.fit.take(held).features
    test = digits.test.features
    own, _ = conformal_threshold(energies_of(found.head, calibration), 0.05)
    assert float((energies_of(found.head, test) > own).mean()) == pytest.approx(0.05, abs=0.02)
    old, _ = conformal_threshold(energies_of(digits.old, calibration), 0.05)
    assert float((energies_of(digits.old, test) > old).mean()) == pytest.approx(0.05, abs=0.02)
    assert float((energies_of(found.head, test) > old).mean()) > 0.2


# Acceptance 5
def test_energy_bounds_keep_the_worst_group_and_see_inverted_digits(digits: Digits) -> None:
    kept, held = hold_out(digits.fit.groups, 0.3, np.random.default_rng(0))
    fit, rest = digits.fit.take(kept), digits.fit.take(held)
    known = np.concatenate([digits.ood["blue"][1::2], digits.ood["inverted"][1::2]])
    unseen = digits.ood["inverted"][::2]
    bounds = own_bounds(
        energies_of(digits.old, fit.features), energies_of(digits.old, known), m_in=None, m_out=None, weight=0.1
    )
    rng = np.random.default_rng(0)
    plain = retrain(fit, digits.old, rng=rng, strengths=(1.0,)).head
    bounded = retrain(fit, digits.old, rng=rng, strengths=(1.0,), outliers=Outliers(known, bounds)).head
    assert accuracies(bounded, digits.test)[0] >= 0.80
    assert separates(bounded, digits.test, unseen) >= 0.95
    assert separates(digits.old, digits.test, unseen) == pytest.approx(0.732, abs=0.005)
    shown = report(digits.old, plain, rest, unseen, 0.05, rng)
    assert shown.before.outliers is not None
    assert shown.after.outliers is not None
    assert shown.after.outliers.auroc < shown.before.outliers.auroc + 0.05  # balanced groups alone bring nothing here
    without_gauge = with_gauge_of(plain, Head(np.zeros((10, 64)), np.zeros(10)))
    assert separates(without_gauge, digits.test, unseen) < 0.70  # and in the solver's own gauge they cost


def test_without_bounds_the_optimum_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    made, _ = random_rows()
    scaled = fit_scaler(made.features)(made.features)
    for strength in (1.0, 0.03):
        ours = fit_head(scaled, made.labels, Head(np.zeros((3, 8)), np.zeros(3)), strength)
        theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(scaled, made.labels)
        centred = [w - w.mean(axis=0) for w in (ours.weight, theirs.coef_)]
        assert np.abs(centred[0] - centred[1]).max() < 1e-3
        assert np.abs(ours.logits(scaled).argmax(axis=1) - theirs.predict(scaled)).max() == 0


def test_heads_are_averaged_and_the_same_seed_gives_the_same_head() -> None:
    made, old = random_rows()
    mean = mean_head([Head(np.zeros((2, 3)), np.zeros(2)), Head(np.full((2, 3), 2.0), np.ones(2))])
    assert mean.weight.tolist() == [[1.0] * 3] * 2
    assert mean.bias.tolist() == [0.5, 0.5]
    first, second = (retrain(made, old, rng=np.random.default_rng(3), resamples=3) for _ in range(2))
    assert first.strength == second.strength
    assert np.array_equal(first.head.weight, second.head.weight)


def test_a_head_without_an_intercept_keeps_none() -> None:
    made, old = random_rows()
    bare = Head(old.weight, np.zeros(3))
    found = retrain(made, bare, rng=np.random.default_rng(0), resamples=2, strengths=(1.0,), intercept=False)
    assert found.head.bias.tolist() == [0, 0, 0]
    assert accuracies(found.head, made)[1] > accuracies(bare, made)[1]


def test_progress_counts_every_fit() -> None:
    made, old = random_rows()
    done: list[int] = []
    retrain(made, old, rng=np.random.default_rng(0), resamples=2, strengths=(1.0, 0.1), progress=done.append)
    assert sum(done) == 2 * 2 + 2
