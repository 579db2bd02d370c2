import numpy as np
import pytest

from dashboard.normal import beyond, rank_of, threshold_at
from tests.faults.scored import reference

EDGES = np.array([-2.0, 0.0, 2.0])
FINE = np.array([[5, 10, 20, 40], [0, 0, 8, 0]])


@pytest.mark.parametrize(
    ("threshold", "counted"),
    [(-2.0, [70, 8]), (-3.0, [75, 8]), (0.0, [60, 8]), (1.0, [50, 4]), (1.5, [45, 2]), (2.0, [40, 0]), (9.0, [0, 0])],
)
def test_beyond_a_threshold_lie_the_bins_above_it_and_its_part_of_the_bin_that_it_cuts(
    threshold: float, counted: list[int]
) -> None:
    assert beyond(FINE, EDGES, threshold).tolist() == counted


def test_the_threshold_of_the_references_own_rate_is_its_own() -> None:
    basis = reference()
    threshold = threshold_at(basis, basis.target_fpr)
    assert threshold == basis.scores[basis.rank - 1]
    assert rank_of(basis, threshold) == pytest.approx(19 / 400)
