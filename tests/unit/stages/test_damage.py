import numpy as np
import pytest

from pipeline.stages.damage import DAMAGES, damaged

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_keeps_shape_and_type_changes_pixels_and_leaves_the_original_alone(kind: str) -> None:
    before = IMAGES.copy()
    made = damaged(IMAGES, kind, np.random.default_rng(1))
    assert (made.shape, str(made.dtype), made.flags["C_CONTIGUOUS"]) == (IMAGES.shape, "uint8", True)
    assert (made != IMAGES).any()
    np.testing.assert_array_equal(IMAGES, before)
    np.testing.assert_array_equal(made, damaged(IMAGES, kind, np.random.default_rng(1)))


@pytest.mark.parametrize(
    ("kind", "times"), [("mirrored", 2), ("rotated 90°", 4), ("inverted", 2), ("red-blue swap", 2)]
)
def test_what_only_moves_pixels_comes_back_when_repeated(kind: str, times: int) -> None:
    made = IMAGES
    for _ in range(times):
        made = damaged(made, kind, np.random.default_rng(1))
    np.testing.assert_array_equal(made, IMAGES)


def test_static_keeps_nothing_of_an_image() -> None:
    black = np.zeros_like(IMAGES)
    np.testing.assert_array_equal(
        damaged(black, "static", np.random.default_rng(2)), damaged(IMAGES, "static", np.random.default_rng(2))
    )
