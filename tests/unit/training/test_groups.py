import numpy as np
import pytest

from pipeline.errors import RefusedError
from pipeline.training.groups import balanced_rows, group_accuracies, hold_out, make_rows, wilson, worst


def test_a_share_of_every_group_is_held_out_and_no_row_is_on_both_sides() -> None:
    groups = np.repeat([0, 1, 2], [100, 21, 10])
    kept, held = hold_out(groups, 0.3, np.random.default_rng(0))
    assert np.bincount(groups[held]).tolist() == [30, 7, 3]
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(131))


def test_balanced_rows_are_as_many_of_every_group_as_the_smallest_has() -> None:
    groups = np.repeat([4, 1, 2], [50, 20, 30])
    chosen = balanced_rows(groups, np.random.default_rng(0))
    assert np.unique(groups[chosen], return_counts=True)[1].tolist() == [20, 20, 20]
    assert len(set(chosen.tolist())) == 60


def test_wilsons_interval_has_its_published_values() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20)[0] == 0
    assert wilson(20, 20)[1] == 1


def test_the_worst_group_is_the_one_of_lowest_accuracy() -> None:
    table = group_accuracies(np.array([True, True, False, True]), np.array([0, 0, 5, 5]))
    assert {group: line.n for group, line in table.items()} == {0: 2, 5: 2}
    assert worst(table) == 0.5


def labelled(sizes: list[int]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.zeros((len(labels), 2)), labels, ["north"] * len(labels)


def test_a_group_is_a_class_with_an_attribute() -> None:
    features, labels, _ = labelled([40, 40])
    made, dropped = make_rows(features, labels, (["north"] * 20 + ["south"] * 20) * 2, ["cat", "dog"], drop_small=False)
    assert made.names == ("cat / north", "cat / south", "dog / north", "dog / south")
    assert np.bincount(made.groups).tolist() == [20] * 4
    assert dropped == ()


def test_a_group_of_fewer_than_twenty_rows_is_refused_by_name_or_left_out_when_forced() -> None:
    features, labels, attributes = labelled([20, 39])
    attributes[20:39] = ["south"] * 19
    with pytest.raises(RefusedError, match=r"1 of 3 groups have fewer than 20 rows: dog / south \(19\)"):
        make_rows(features, labels, attributes, ["cat", "dog"], drop_small=False)
    made, dropped = make_rows(features, labels, attributes, ["cat", "dog"], drop_small=True)
    assert len(made.labels) == 40
    assert dropped == ("dog / south (19)",)


def test_a_class_without_rows_is_refused_also_when_small_groups_are_left_out() -> None:
    features, labels, attributes = labelled([20, 5])
    with pytest.raises(RefusedError, match="1 of 2 classes have no rows: dog"):
        make_rows(features, labels, attributes, ["cat", "dog"], drop_small=True)


def test_labels_that_are_no_class_are_counted_and_refused() -> None:
    features, labels, attributes = labelled([20, 20])
    labels[[3, 7]] = (2, -1)
    with pytest.raises(RefusedError, match=r"2 of 40 labels are no class of the model \(first: 2 in row 3\)"):
        make_rows(features, labels, attributes, ["cat", "dog"], drop_small=False)


def test_features_that_are_not_finite_are_counted_and_refused() -> None:
    features, labels, attributes = labelled([20, 20])
    features[5, 1] = np.nan
    with pytest.raises(RefusedError, match=r"1 of 40 rows of features hold NaN or infinity \(first: row 5\)"):
        make_rows(features, labels, attributes, ["cat", "dog"], drop_small=False)
