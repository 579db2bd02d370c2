from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from pipeline.errors import ModelFailure
from pipeline.localization.strangeness import Explained, Reading, explain_regions, heat, on_input, ring_width
from pipeline.models.preprocessing import Preprocessing
from pipeline.records import Outputs, Pixels
from pipeline.scoring.energy import score_logits

PLAIN = Preprocessing(16, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def darkness(batch: Pixels, *, unit: float = 1.0) -> Outputs:
    """Two equal logits of −(mean brightness of the red channel): a bright thing is strange, E = mean − log 2."""
    mean = batch[:, :, :, 0].reshape(len(batch), -1).mean(axis=1, dtype=np.float64)
    logits = np.stack([-mean / unit] * 2, axis=1).astype(np.float32)
    return Outputs(logits, logits)


def scene() -> tuple[Pixels, list[np.ndarray]]:
    """Dark ground of 10, a bright thing of 210 on a sixteenth, a grey one of 50 on as much."""
    picture = np.full((16, 16, 3), 10, np.uint8)
    bright, grey = np.zeros((16, 16), np.bool_), np.zeros((16, 16), np.bool_)
    bright[2:6, 2:6], grey[10:14, 10:14] = True, True
    picture[bright], picture[grey] = 210, 50
    return picture, [grey, bright]


def test_the_change_of_energy_is_what_the_region_brings_and_the_brightest_explains_most() -> None:
    picture, masks = scene()
    explained = explain_regions(picture, masks, PLAIN, darkness, score_logits)
    assert explained.whole.energy == pytest.approx(10 + 200 / 16 + 40 / 16 - np.log(2), abs=1e-5)
    assert explained.changes() == pytest.approx([-40 / 16, -200 / 16], abs=1e-5)
    assert explained.ranking() == [1, 0]


def test_what_the_model_does_not_see_changes_nothing_and_what_is_all_it_sees_cannot_be_filled() -> None:
    picture = np.full((16, 48, 3), 10, np.uint8)
    margin, centre = np.zeros((16, 48), np.bool_), np.zeros((16, 48), np.bool_)
    margin[:, :8], centre[:, 12:36] = True, True  # the model sees columns 16 to 31
    explained = explain_regions(picture, [margin, centre], PLAIN, darkness, score_logits)
    assert explained.filled[0] == explained.whole
    assert explained.filled[1] is None
    assert explained.changes().tolist() == [0, 0]


def test_a_region_reaches_the_pixels_of_the_input_that_resizing_mixes_it_into() -> None:
    mask = np.zeros((16, 16), np.bool_)
    mask[4:8, 4:12] = True
    large = mask.repeat(5, axis=0).repeat(5, axis=1)
    assert np.array_equal(on_input(mask, PLAIN), mask)
    reached = on_input(large, PLAIN)
    cross = ndimage.binary_dilation(mask)  # the resize blends neighbours: an eighth of them is the region
    assert np.array_equal(reached, cross)
    line = np.zeros((160, 160), np.bool_)
    line[83, :] = True
    assert on_input(line, PLAIN)[8].all()
    assert ring_width(32) == 4
    assert ring_width(8) == 2


def read(score: float) -> Reading:
    return Reading(score, score, 0.5, 0)


@pytest.mark.parametrize(
    ("filled", "normal", "explaining"),
    [
        ((-1.5, -3.0), None, 1),
        ((-1.5, -0.5), None, 0),
        ((-0.9, 2.0), None, None),  # less than a nat
        ((-3.0, -2.0), -12.1, None),  # less than a quarter of 12.1
        ((-3.1, -2.0), -12.1, 0),
        ((-3.0, -2.0), 0.5, None),  # the image is no more unusual than a normal one
        ((), None, None),
    ],
)
def test_a_region_explains_the_image_from_a_nat_and_a_quarter_of_its_excess(
    filled: tuple[float, ...], normal: float | None, explaining: int | None
) -> None:
    explained = Explained(read(0.0), tuple(read(score) for score in filled))
    assert explained.explaining(normal) == explaining


def test_a_model_that_answers_nan_to_the_image_itself_ends_it() -> None:
    picture, masks = scene()
    with pytest.raises(ModelFailure, match="NaN or infinity"):
        explain_regions(picture, masks, PLAIN, partial(darkness, unit=np.nan), score_logits)


def test_the_map_shows_the_best_region_around_each_pixel() -> None:
    inner, outer = np.zeros((4, 4), np.bool_), np.ones((4, 4), np.bool_)
    inner[1, 1] = True
    warmth = heat([inner, outer], np.array([-3.0, -1.0]), 4, 4)
    assert warmth[1, 1] == 3
    assert warmth.sum() == 3 + 15
    assert heat([outer], np.array([2.0]), 4, 4).max() == 0
