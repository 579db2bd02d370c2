import numpy as np
import pytest

from pipeline.localization.components import ComponentSegmenter
from pipeline.localization.regions import Box, overlap
from pipeline.localization.segmenter import Picture, Point, Prompt

SEGMENTER = ComponentSegmenter()


def picture() -> tuple[Picture, np.ndarray, np.ndarray]:
    """A disc with a darker hub on a plain ground, and a square beside it."""
    rows, columns = np.indices((60, 100))
    disc = (rows - 30) ** 2 + (columns - 30) ** 2 <= 18**2
    square = (abs(rows - 30) <= 10) & (abs(columns - 75) <= 10)
    pixels = np.full((60, 100, 3), 20, np.uint8)
    pixels[disc], pixels[square] = (200, 60, 60), (60, 60, 200)
    pixels[(rows - 30) ** 2 + (columns - 30) ** 2 <= 6**2] = (180, 40, 40)
    return Picture(pixels, "k"), disc, square


def test_it_does_not_call_itself_segment_anything() -> None:
    assert SEGMENTER.name == "components (not Segment Anything)"


def test_a_click_gives_part_thing_and_whole() -> None:
    shown, disc, square = picture()
    part, thing, whole = SEGMENTER.segment(shown, Prompt((Point(30, 30),)))
    assert part.mask.sum() == 113  # the hub
    assert overlap(thing.mask, disc) == overlap(whole.mask, disc) == 1
    (one,) = SEGMENTER.segment(shown, Prompt((Point(75, 30),), wants_one=True))
    assert overlap(one.mask, square) == 1
    assert one.score == 1


def test_a_box_a_drawing_and_further_clicks_settle_the_region() -> None:
    shown, disc, square = picture()
    (boxed,) = SEGMENTER.segment(shown, Prompt(box=Box(60, 15, 90, 45)))
    assert overlap(boxed.mask, square) == 1
    (drawn,) = SEGMENTER.segment(shown, Prompt((Point(75, 30, False),), drawn=disc | square))
    assert np.array_equal(drawn.mask, disc)
    (both,) = SEGMENTER.segment(shown, Prompt((Point(30, 15), Point(75, 30))))
    assert np.array_equal(both.mask, disc | square)


def test_by_itself_it_finds_every_thing_once() -> None:
    shown, disc, square = picture()
    found = SEGMENTER.everything(shown)
    assert max(overlap(one.mask, disc) for one in found) == 1
    assert max(overlap(one.mask, square) for one in found) == 1
    overlaps = [overlap(a.mask, b.mask) for i, a in enumerate(found) for b in found[:i]]
    assert max(overlaps) <= 0.9
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert SEGMENTER.everything(Picture(noise, "n")) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (700, 2)])
def test_pictures_of_odd_shapes_have_regions_of_their_own_shape(shape: tuple[int, int]) -> None:
    shown = Picture(np.zeros((*shape, 3), np.uint8), "k")
    for candidate in SEGMENTER.segment(shown, Prompt((Point(0, 0),))):
        assert candidate.mask.shape == shape
        assert candidate.mask.all()
