"""Trains the demo's digit reader anew and writes its weights: python -m pipeline.demo.weights

They travel with the package, so that a demo begins at once.
"""

from dataclasses import replace

import numpy as np
import torch
from safetensors.torch import save_file

from pipeline.demo import digits

_IMAGES = 9_000  # of 900 scans
_EPOCHS = 20


def make() -> dict[str, torch.Tensor]:
    """The state dict, on one thread: a minute on one core."""
    torch.set_num_threads(1)
    images = digits.load_images()
    train, chosen = digits.jittered(images.train, _IMAGES, np.random.default_rng(3))
    return digits.train(replace(images, train=train, train_labels=images.train_labels[chosen]), epochs=_EPOCHS)


if __name__ == "__main__":
    save_file({name: value.contiguous() for name, value in make().items()}, digits.WEIGHTS)
