"""Who plays: a model, what it was calibrated on, what it sees, and what it has never seen."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.demo import digits
from pipeline.models.packaging import make_package
from pipeline.models.preprocessing import Preprocessing
from pipeline.records import Pixels
from tests.causes.pictures import shifted, strangers, tinted

_SEED = 5
_ARCHITECTURE = Path(__file__).parents[1] / "golden" / "resnet20.py"


@dataclass(frozen=True)
class Cast:
    """Pictures are (N, 32, 32, 3). `make` writes a package into a folder: of the model, or of a careless other one."""

    normal: Pixels
    labels: NDArray[np.int64]
    calibrate: Pixels
    calibrate_labels: NDArray[np.int64]
    strangers: Pixels
    favourites: tuple[int, ...]  # classes that a new mix is mostly of
    make: Callable[[Path, bool], None]
    per_minute: int  # images: more where the model tells less well


def digit_readers() -> Cast:
    """Tinted digits; what is strange is a cat."""
    rng = np.random.default_rng(_SEED)
    images = digits.load_images()
    normal = tinted(shifted(images.stream, rng), rng)
    odd = strangers(images, rng)
    lesson = tinted(shifted(np.concatenate([images.train] * 2), rng), rng)
    calibrate = tinted(shifted(np.concatenate([images.calibrate] * 4), rng), rng)
    careless = tinted(images.train, rng)

    def make(home: Path, other: bool) -> None:
        pixels = careless if other else lesson
        labels = np.concatenate([images.train_labels] * (len(pixels) // len(images.train_labels)))
        taught = digits.DemoImages(
            pixels, labels, images.calibrate, images.calibrate_labels, images.stream, images.stream_labels, images.cats
        )
        torch.save(digits.train(taught, epochs=3 if other else 8), home / "weights.pt")
        (home / "classes.txt").write_text("\n".join(digits.CLASSES))
        half = (0.5, 0.5, 0.5)
        make_package(
            home / "model",
            architecture="pipeline.demo.digits:digit_reader",
            weights=home / "weights.pt",
            classes=home / "classes.txt",
            head="head",
            preprocessing=Preprocessing(digits.INPUT_SIZE, digits.INPUT_SIZE, mean=half, std=half),
        )

    labels = np.concatenate([images.calibrate_labels] * 4)
    return Cast(normal, images.stream_labels, calibrate, labels, odd, (1, 7), make, per_minute=24)


def cifar_resnet(pack: Path) -> Cast:
    """CIFAR-10 images; one half calibrates, the other is the traffic; what is strange are house numbers."""
    names = sorted(folder.name for folder in (pack / "id").iterdir())
    files = [(file, names.index(file.parent.name)) for file in sorted((pack / "id").glob("*/*.jpg"))]
    halves = [[(file, label) for file, label in files if int(file.stem) % 2 == half] for half in (0, 1)]
    (calibrate, calibrate_labels), (normal, labels) = (
        (_read([file for file, _ in half]), np.array([label for _, label in half])) for half in halves
    )

    def make(home: Path, other: bool) -> None:
        weights = pack / "weights/resnet20-12fca82f.th"
        if other:
            found = torch.load(weights, weights_only=True, map_location="cpu")
            state, generator = found.get("state_dict", found), torch.Generator().manual_seed(_SEED)
            weights = home / "weights.th"
            torch.save({name: _shaken(value, generator) for name, value in state.items()}, weights)
        (home / "classes.txt").write_text("\n".join(names))
        make_package(
            home / "model",
            architecture=f"{_ARCHITECTURE}:resnet20",
            weights=weights,
            classes=home / "classes.txt",
            head="linear",
            preprocessing=Preprocessing(32, 32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        )

    odd = _read(sorted((pack / "ood/svhn").rglob("*.*")))
    return Cast(normal, labels, calibrate, calibrate_labels, odd, (1, 7), make, per_minute=60)


def _read(files: list[Path]) -> Pixels:
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def _shaken(value: Tensor, generator: torch.Generator) -> Tensor:
    """Weights as of another training; biases and statistics stay."""
    return value + 0.2 * value.std() * torch.randn(value.shape, generator=generator) if value.dim() > 1 else value
