import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.errors import RefusedError
from pipeline.records import Float64s
from pipeline.scoring.evaluation import (
    auroc,
    auroc_deviation,
    average_precision,
    fpr95_official,
    fpr95_resamples,
    interval,
    roc_curve,
    separation,
    shares_in_bins,
    threshold_at,
    total_variation,
)

fixed = settings(derandomize=True, deadline=None, max_examples=80)
# Few distinct values, so that ties within and between the sets are common.
scores = st.lists(st.integers(-6, 6), min_size=1, max_size=60).map(lambda values: np.sort(np.array(values, np.float64)))


def official(ids: Float64s, oods: Float64s) -> float:
    """The rule of the authors' code in words: walk recall from high to low over distinct scores, take the nearest."""
    values = np.unique(np.concatenate([ids, oods]))
    recall = np.array([(ids <= value).mean() for value in values])
    passed = np.array([(oods <= value).sum() for value in values])
    last = int(np.flatnonzero(recall == 1)[0])
    downwards = list(range(last, -1, -1))
    distances = [abs(recall[i] - 0.95) for i in downwards]
    return float(passed[downwards[int(np.argmin(distances))]] / len(oods))


def test_twenty_scores_keep_nineteen() -> None:
    ids = np.arange(1.0, 21.0)
    oods = np.array([18.0, 19.0, 19.5, 20.0, 25.0])
    figures = separation(ids, oods, rng=np.random.default_rng(0))
    assert threshold_at(ids) == 19
    assert figures.fpr95 == 0.4  # 18 and 19 pass
    assert figures.fpr95_official == 0.6  # and 19.5, which lies below the next ID score
    assert figures.auroc == pytest.approx((17.5 + 18.5 + 19 + 19.5 + 20) / 100)
    assert figures.fpr95_ood_positive == 0.15  # all five must be caught: ID at 18 and above is lost


def test_perfect_separation_and_none() -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(100.0)
    perfect = separation(ids, ids + 1000, rng=rng)
    assert (perfect.fpr95, perfect.auroc, perfect.aupr_in, perfect.aupr_out) == (0, 1, 1, 1)
    assert perfect.high == pytest.approx(0.0362, abs=1e-4)  # 100 that were caught do not prove that all are
    reversed_ = separation(ids, ids - 1000, rng=rng)
    assert (reversed_.fpr95, reversed_.auroc, reversed_.fpr95_ood_positive) == (1, 0, 1)
    assert separation(ids, ids, rng=rng).auroc == 0.5


@fixed
@given(scores, scores)
def test_figures_agree_with_scikit_learn_and_with_the_rule_in_words(ids: Float64s, oods: Float64s) -> None:
    is_ood = np.r_[np.zeros(len(ids)), np.ones(len(oods))]
    both = np.r_[ids, oods]
    assert auroc(ids, oods) == pytest.approx(roc_auc_score(is_ood, both), abs=1e-12)
    assert average_precision(ids, oods) == pytest.approx(average_precision_score(1 - is_ood, -both), abs=1e-12)
    assert average_precision(-oods, -ids) == pytest.approx(average_precision_score(is_ood, both), abs=1e-12)
    assert fpr95_official(ids, oods) == pytest.approx(official(ids, oods), abs=1e-12)


@fixed
@given(scores, scores, st.sampled_from([0.5, 2.0, 3.0]))
def test_weights_stand_for_repeated_scores(ids: Float64s, oods: Float64s, weight: float) -> None:
    if weight == 0.5:
        expected = average_precision(ids, np.repeat(oods, 2))
    else:
        expected = average_precision(np.repeat(ids, int(weight)), oods)
    assert average_precision(ids, oods, positive_weight=weight) == pytest.approx(expected, abs=1e-12)


@fixed
@given(scores, scores)
def test_figures_depend_on_the_order_of_scores_alone(ids: Float64s, oods: Float64s) -> None:
    plain = separation(ids, oods, rng=np.random.default_rng(1))
    bent = separation(np.exp(ids), np.exp(oods), rng=np.random.default_rng(1))
    assert bent == plain
    assert plain.low <= plain.fpr95 <= plain.high
    assert plain.auroc_low <= plain.auroc <= plain.auroc_high


def test_the_quick_bootstrap_has_the_distribution_of_the_plain_one() -> None:
    rng = np.random.default_rng(3)
    ids, oods = np.sort(rng.normal(size=400)), np.sort(rng.normal(1.5, 1, 150))
    quick = fpr95_resamples(ids, [oods], rng=rng)[0]
    plain = []
    for _ in range(2000):
        threshold = threshold_at(np.sort(rng.choice(ids, 400)))
        plain.append((rng.choice(oods, 150) <= threshold).mean())
    np.testing.assert_allclose(interval(quick), interval(np.array(plain)), atol=0.02)
    assert quick.std() == pytest.approx(np.std(plain), rel=0.1)


def test_the_deviation_of_the_auroc_is_what_repeating_the_experiment_shows() -> None:
    rng = np.random.default_rng(4)
    draws = [(np.sort(rng.normal(size=200)), np.sort(rng.normal(1, 1, 100))) for _ in range(600)]
    seen = np.std([auroc(ids, oods) for ids, oods in draws])
    said = np.mean([auroc_deviation(ids, oods) for ids, oods in draws])
    assert said == pytest.approx(seen, rel=0.1)


def test_a_curve_runs_from_corner_to_corner_and_never_back() -> None:
    rng = np.random.default_rng(5)
    curve = roc_curve(np.sort(rng.normal(size=500)), np.sort(rng.normal(1, 1, 70)))
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]
    assert bool((np.diff(curve, axis=0) >= 0).all())


def test_histograms_sum_to_one_and_their_distance_lies_between_zero_and_one() -> None:
    edges = np.array([0.0, 1.0])
    left = shares_in_bins(np.array([-1.0, 0.0, 0.5, 2.0]), edges)
    assert left.tolist() == [0.5, 0.25, 0.25]  # a score on an edge lies below it
    assert total_variation(left, left) == 0
    assert total_variation(left, np.array([0.0, 0.0, 1.0])) == 0.75


def test_no_normal_score_is_refused() -> None:
    with pytest.raises(RefusedError, match="--id"):
        threshold_at(np.empty(0))
