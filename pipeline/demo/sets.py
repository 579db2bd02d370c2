"""Folders of images that a demo leaves behind, to go on with."""

from pathlib import Path

import numpy as np

from pipeline.demo import digits


def write_sets(images: digits.DemoImages, home: Path) -> None:
    """What a repair needs: normal images with labels, images of something else, and what to judge by."""
    digits.write_images(images.train, home / "train", images.train_labels)
    digits.write_images(images.stream, home / "digits-seen", images.stream_labels)
    digits.write_images(digits.cut_others(360, np.random.default_rng(2)), home / "others")
    digits.write_images(images.cats, home / "cats")
    digits.write_images(digits.lying(images.stream), home / "lying")
