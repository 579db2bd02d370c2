"""Folders of images that a demo leaves behind, to go on with."""

from pathlib import Path

import numpy as np

from pipeline.demo import digits

_TRAIN = 3_600  # of 900 scans


def write_sets(images: digits.DemoImages, home: Path) -> None:
    """What a repair needs: normal images with labels, images of something else, and what to judge by."""
    # As the reader was trained: on scans as clean as they are it would forget how to read those that are not.
    train, chosen = digits.jittered(images.train, _TRAIN, np.random.default_rng(3))
    digits.write_images(train, home / "train", images.train_labels[chosen])
    digits.write_images(images.stream, home / "digits-seen", images.stream_labels)
    digits.write_images(digits.cut_others(360, np.random.default_rng(2)), home / "others")
    digits.write_images(images.cats, home / "cats")
    digits.write_images(digits.lying(images.stream), home / "lying")
