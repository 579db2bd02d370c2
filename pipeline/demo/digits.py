"""The demo's classifier and its images. Nothing is downloaded: digits and pictures travel inside wheels.

Digits are scikit-learn's 1,797 scans of 8x8 pixels, enlarged to 64x64; the reader sees 8x8 again. What
it is shown later are pieces of a cat's portrait (scikit-image's `chelsea`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pipeline.records import Pixels

SIDE = 64  # of the images as sent
INPUT_SIZE = 8  # what the reader sees
_N_TRAIN = 900
_N_CALIBRATE = 400
CLASSES = tuple(str(digit) for digit in range(10))
WEIGHTS = Path(__file__).with_name("digits.safetensors")  # made by `python -m pipeline.demo.weights`


class DigitReader(nn.Module):
    """Three convolutions and a linear head: 73,000 parameters.

    Without batch normalisation on purpose: with it, the energies of what the reader has never seen
    depend on the seed of the training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 3, 8, 8)."""
        logits: Tensor = self.head(self.body(images))
        return logits


def digit_reader() -> nn.Module:
    """The architecture, for the model package."""
    return DigitReader()


@dataclass(frozen=True, slots=True)
class DemoImages:
    """All images of the demo, (N, 64, 64, 3) uint8 each."""

    train: Pixels
    train_labels: NDArray[np.int64]
    calibrate: Pixels
    calibrate_labels: NDArray[np.int64]
    stream: Pixels
    stream_labels: NDArray[np.int64]
    cats: Pixels


def load_images(seed: int = 0) -> DemoImages:
    """Split the digits at random into three parts that share no scan, and cut the cat."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    order = np.random.default_rng(seed).permutation(len(scans.images))
    pixels = np.stack([_enlarge(scans.images[i]) for i in order])
    labels = scans.target[order].astype(np.int64)
    first, second = _N_TRAIN, _N_TRAIN + _N_CALIBRATE
    return DemoImages(
        train=pixels[:first],
        train_labels=labels[:first],
        calibrate=pixels[first:second],
        calibrate_labels=labels[first:second],
        stream=pixels[second:],
        stream_labels=labels[second:],
        cats=cut_cats(400, np.random.default_rng(seed + 1)),
    )


def train(
    images: DemoImages,
    *,
    seed: int = 0,
    epochs: int = 30,
    progress: Callable[[int], None] = lambda epoch: None,
) -> dict[str, Tensor]:
    """Train the reader on the CPU; return its state dict."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitReader()
        inputs = normalised(images.train)
        labels = torch.from_numpy(images.train_labels)
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
        for epoch in range(epochs):
            for chosen in torch.split(torch.randperm(len(inputs)), 64):
                loss = nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            progress(epoch + 1)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def normalised(pixels: Pixels) -> Tensor:
    """(N, 3, 8, 8) float in [-1, 1], as the package's preprocessing makes it."""
    small = [Image.fromarray(image).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR) for image in pixels]
    batch = np.stack([np.asarray(image) for image in small])
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def cut_cats(n: int, rng: np.random.Generator) -> Pixels:
    """Random square pieces of the cat's portrait, 64x64."""
    return _cut(("chelsea",), n, rng)


def cut_others(n: int, rng: np.random.Generator) -> Pixels:
    """The same of other pictures, for a repair: what it learns from must not be what it is judged by."""
    return _cut(("astronaut", "brick", "camera", "coffee", "coins", "grass", "gravel", "moon", "rocket"), n, rng)


def jittered(pixels: Pixels, n: int, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.int64]]:
    """n images like these, each turned, moved and lit a little differently and with noise; and which each was."""
    chosen = rng.permutation(np.resize(np.arange(len(pixels)), n))
    made = np.stack([_jitter(pixels[i], rng) for i in chosen])
    return made, chosen


def noisy(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """With noise of a standard deviation of that many grey levels."""
    return np.clip(pixels + rng.normal(0, strength, pixels.shape), 0, 255).astype(np.uint8)


def dimmed(pixels: Pixels, light: float) -> Pixels:
    """With so much of their light left, 0 to 1."""
    return (pixels * light).astype(np.uint8)


def lying(pixels: Pixels) -> Pixels:
    """As a camera that has fallen over sees them."""
    return np.ascontiguousarray(np.rot90(pixels, axes=(1, 2)))


def _jitter(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    moved = Image.fromarray(image).rotate(
        float(rng.normal(0, 4)), Image.Resampling.BILINEAR, translate=tuple(rng.integers(-3, 4, 2).tolist())
    )
    lit = np.asarray(moved, np.float64) * rng.uniform(0.9, 1.0) + rng.normal(0, 3, (SIDE, SIDE, 1))
    return np.clip(lit, 0, 255).astype(np.uint8)


def _cut(names: tuple[str, ...], n: int, rng: np.random.Generator) -> Pixels:
    import skimage.data

    pictures = [np.asarray(getattr(skimage.data, name)()) for name in names]
    pieces = []
    for i in range(n):
        picture = pictures[i % len(pictures)]
        height, width = picture.shape[:2]
        side = int(rng.integers(60, 160))
        top, left = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
        piece = Image.fromarray(picture[top : top + side, left : left + side]).convert("RGB")
        pieces.append(np.asarray(piece.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
    return np.stack(pieces)


def write_images(pixels: Pixels, folder: Path, labels: NDArray[np.int64] | None = None) -> None:
    """Write PNG files, into class folders where there are labels."""
    for i, image in enumerate(pixels):
        home = folder if labels is None else folder / str(labels[i])
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{i:04d}.png")


def _enlarge(scan: NDArray[np.float64]) -> Pixels:
    grey = Image.fromarray((scan * (255 / 16)).astype(np.uint8))
    large = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.stack([large] * 3, axis=-1)
