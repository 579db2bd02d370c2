import io

import numpy as np
from PIL import Image

from pipeline.ingest.odd_images import odd_images


def test_odd_images_are_pictures_of_three_kinds_and_no_two_are_the_same() -> None:
    made = list(odd_images(60, np.random.default_rng(0)))
    assert len(set(made)) == len(made) == 60
    pictures = [np.asarray(Image.open(io.BytesIO(value)), np.int64) for value in made]
    assert {picture.shape for picture in pictures} == {(224, 224, 3)}
    static, stripes, plasma = (pictures[kind::3] for kind in range(3))
    assert all(len(np.unique(picture.reshape(-1, 3), axis=0)) == 2 for picture in stripes)
    steps = [[np.abs(np.diff(one, axis=1)).mean() for one in kind] for kind in (static, plasma)]
    assert min(steps[0]) > 80  # what lies side by side has nothing in common,
    assert max(steps[1]) < 30  # or nearly everything
