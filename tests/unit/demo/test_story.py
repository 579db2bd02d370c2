"""The demo's story, without a clock."""

from itertools import pairwise

import pytest

from pipeline.demo.story import CAMERAS, on_stage, story


@pytest.mark.parametrize("seconds", [5, 60, 299, 300, 450])
def test_every_story_begins_clean_and_ends_with_time_to_recover(seconds: float) -> None:
    scenes = story(seconds)
    assert on_stage(scenes, 0) == {}
    assert scenes[-1].end_s <= 0.85 * seconds
    assert all(before.end_s < after.start_s for before, after in pairwise(scenes))


def test_a_short_story_is_about_the_cats_and_a_whole_one_about_five_cameras() -> None:
    assert [scene.what for scene in story(60)] == ["cats"]
    assert [scene.what for scene in story(450)] == ["cats", "noise", "dim", "frozen", "rotated"]
    assert len({scene.camera for scene in story(450)} & set(CAMERAS)) == 5


def test_a_scene_is_on_from_its_start_until_its_end_and_grows_meanwhile() -> None:
    (cats,) = story(60)
    assert on_stage((cats,), cats.start_s) == {"belt-2": cats}
    assert on_stage((cats,), cats.end_s) == {}
    assert [cats.depth(at) for at in (12, 13.5, 15)] == [0, 0.5, 1]
