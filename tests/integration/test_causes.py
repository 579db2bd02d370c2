"""Ten synthetic faults on real images, through worker and monitor: the right cause is among the first two."""

import pytest

from pipeline.alerts.page import page
from tests.causes.casts import digit_readers
from tests.causes.stage import FAULTS, Played, prepare, second_reference

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    """Those of the ten that were raised."""
    world = prepare(tmp_path_factory.mktemp("causes"), digit_readers())
    found = [world.play(fault) for fault in FAULTS if fault.model == "first"]
    second_reference(world)
    found += [world.play(fault) for fault in FAULTS if fault.model == "second"]
    return {one.fault.name: one for one in found if one is not None}


def test_the_right_cause_is_among_the_first_two_of_eight_in_ten_faults(played: dict[str, Played]) -> None:
    places = {name: one.place for name, one in played.items()}
    assert len(places) == 10
    assert sum(place in {1, 2} for place in places.values()) >= 8, places


def test_every_cause_comes_with_evidence_in_numbers(played: dict[str, Played]) -> None:
    for name, one in played.items():
        cause = next(cause for cause in one.payload["cause"] if cause["kind"] == one.fault.cause)
        assert any(letter.isdigit() for said in cause["evidence"] for letter in said), name


def test_the_camera_at_fault_has_most_of_the_excess(played: dict[str, Played]) -> None:
    for name in ("fog", "frozen", "new class"):
        first = played[name].payload["attribution"][0]
        assert first["segment"] == "east"
        assert first["share"] >= 0.8


def test_shares_sum_to_one_wherever_there_is_an_excess(played: dict[str, Played]) -> None:
    for one in played.values():
        for what in ("segment", "class"):
            shares = [part["share"] for part in one.payload["attribution"] if what in part]
            assert not shares or sum(shares) == pytest.approx(1)


def test_the_estimated_accuracy_falls_where_the_images_are_damaged(played: dict[str, Played]) -> None:
    fog, flood = (played[name].payload["matters"] for name in ("fog", "flood"))
    assert fog["accuracy_at_most"]["share"] < flood["accuracy_at_most"]["share"] - 0.05
    assert abs(flood["accuracy_at_most"]["share"] - flood["reference_accuracy"]) < 0.05


def test_four_pictures_of_the_camera_since_the_onset_are_named(played: dict[str, Played]) -> None:
    thumbnails = played["fog"].payload["thumbnails"]
    assert [len(thumbnails["unusual"]), len(thumbnails["usual"])] == [4, 4]
    assert not set(thumbnails["unusual"]) & set(thumbnails["usual"])


def test_every_answer_is_a_page(played: dict[str, Played]) -> None:
    for one in played.values():
        assert page(one.payload).splitlines()[-1].startswith("  say that you have it: oodwatch ack")
