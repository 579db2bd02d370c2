"""Foreign objects on pictures of digits: does the region that explains the energy name the object?

Digits are scikit-learn's scans on a canvas of 32 x 32, the objects pieces of a cat's portrait (scikit-image) in the
shape of an ellipse. A small network learns the digits without objects. Regions are given: the object, the
digit, four quadrants of the rest. Nothing is downloaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from pipeline.localization.regions import Mask, box_of, ring_fill
from pipeline.localization.strangeness import explain_regions, ring_width
from pipeline.models.preprocessing import Preprocessing
from pipeline.records import Outputs, Pixels
from pipeline.scoring.energy import score_logits

SIDE = 32
PREPROCESSING = Preprocessing(SIDE, SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
ROSE = 1.0  # nats: an object that raises the energy less has not made the image strange


@dataclass(frozen=True)
class Scene:
    """One digit without and with a foreign object, and its regions: object, digit, four quadrants of the rest."""

    plain: Pixels
    pasted: Pixels
    masks: tuple[Mask, ...]


@dataclass(frozen=True)
class Tops:
    """Of the images whose energy rose: how often each way of scoring puts the object on top."""

    images: int
    rose: int
    filled: float  # the region filled from its surroundings
    kept: float  # everything else filled
    cropped: float  # the region cut out and enlarged: the wrong way
    all_filled: float  # of all images, whether their energy rose or not


class Reader(nn.Module):
    """Two convolutions and a head, without batch normalisation: energies then depend on the image alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
            *(nn.Flatten(), nn.Linear(256, 64), nn.ReLU()),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and features."""
        features = self.body(images)
        return self.head(features), features


def normalised(batch: Pixels) -> torch.Tensor:
    """(B, 3, 32, 32) in [-1, 1]."""
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def predict(reader: nn.Module, batch: Pixels) -> Outputs:
    """As `Classifier.predict`."""
    with torch.inference_mode():
        logits, features = reader(normalised(batch))
    return Outputs(logits.numpy(), features.numpy())


def canvas(scan: NDArray[np.float64], rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A digit of random size, place and colours on a plain, slightly noisy ground; and where its ink is."""
    side = int(rng.integers(14, 21))
    ink = Image.fromarray((scan * (255 / 16)).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    top, left = (int(rng.integers(0, SIDE - side + 1)) for _ in range(2))
    share = np.zeros((SIDE, SIDE, 1))
    share[top : top + side, left : left + side, 0] = np.asarray(ink) / 255
    ground, colour = rng.integers(0, 90, 3), rng.integers(150, 256, 3)
    picture = ground + share * (colour - ground) + rng.normal(0, 4, (SIDE, SIDE, 3))
    return picture.round().clip(0, 255).astype(np.uint8), share[:, :, 0] > 0


def train(scans: NDArray[np.float64], labels: NDArray[np.int64], *, seed: int, epochs: int = 40) -> Reader:
    """On fresh canvases in every epoch; some seconds of CPU."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = Reader()
        optimiser = torch.optim.Adam(reader.parameters(), lr=2e-3)
        for _ in range(epochs):
            order = rng.permutation(len(scans))
            inputs = normalised(np.stack([canvas(scans[i], rng)[0] for i in order]))
            for rows in torch.split(torch.arange(len(order)), 64):
                loss = nn.functional.cross_entropy(reader(inputs[rows])[0], torch.from_numpy(labels[order[rows]]))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return reader.eval()


def scene(scan: NDArray[np.float64], cat: Pixels, rng: np.random.Generator) -> Scene | None:
    """A canvas with an ellipse of cat that leaves the digit's ink alone; None where there is no room."""
    plain, ink = canvas(scan, rng)
    rows, columns = np.indices((SIDE, SIDE))
    for _ in range(50):
        high, wide = rng.uniform(4, 6.5, 2)
        y, x = rng.uniform(high, SIDE - 1 - high), rng.uniform(wide, SIDE - 1 - wide)
        disc = ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 <= 1
        if not (disc & ink).any():
            break
    else:
        return None
    pasted = plain.copy()
    pasted[disc] = _piece(cat, rng)[disc]
    rest = ~(disc | ink)
    half = SIDE // 2
    quadrants = [
        rest & ((rows < half) == upper) & ((columns < half) == left)
        for upper in (True, False)
        for left in (True, False)
    ]
    return Scene(plain, pasted, (disc, ink, *quadrants))


def measure(*, scenes: int = 400, seed: int = 0) -> tuple[Tops, float]:
    """The shares, and the network's accuracy on unseen digits without objects."""
    from skimage.data import chelsea
    from sklearn.datasets import load_digits

    torch.set_num_threads(1)
    scans = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(scans.images))
    learnt, unseen = order[:1200], order[1200:]
    labels = scans.target.astype(np.int64)
    reader = train(scans.images[learnt], labels[learnt], seed=seed)
    model = partial(predict, reader)
    plain = np.stack([canvas(scans.images[i], rng)[0] for i in unseen])
    accuracy = float((model(plain).logits.argmax(1) == labels[unseen]).mean())
    cat = np.asarray(chelsea())  # type: ignore[no-untyped-call]
    made = [scene(scans.images[int(rng.choice(unseen))], cat, rng) for _ in range(scenes)]
    return tops([one for one in made if one is not None], model), accuracy


def tops(scenes: list[Scene], model: Callable[[Pixels], Outputs]) -> Tops:
    """Rank the regions of every scene in each way."""
    won: dict[str, list[bool]] = {"filled": [], "kept": [], "cropped": []}
    rose = []
    for one in scenes:
        explained = explain_regions(one.pasted, one.masks, PREPROCESSING, model, score_logits)
        plain = score_logits(model(one.plain[None])).energy[0]
        rose.append(explained.whole.energy - plain > ROSE)
        won["filled"].append(explained.ranking()[0] == 0)
        others = [ring_fill(one.pasted, ~mask, ring_width(SIDE)) for mask in one.masks]
        kept = np.stack([one.pasted if other is None else other for other in others])
        won["kept"].append(int(score_logits(model(kept)).energy.argmax()) == 0)
        crops = np.stack([_crop(one.pasted, mask) for mask in one.masks])
        won["cropped"].append(int(score_logits(model(crops)).energy.argmax()) == 0)
    chosen = np.array(rose)
    shares = {name: float(np.array(of)[chosen].mean()) for name, of in won.items()}
    return Tops(len(scenes), int(chosen.sum()), **shares, all_filled=float(np.mean(won["filled"])))


def _crop(pixels: Pixels, mask: Mask) -> Pixels:
    x0, y0, x1, y1 = (int(value) for value in box_of(mask))
    piece = Image.fromarray(pixels[y0 : y1 + 1, x0 : x1 + 1])
    return np.asarray(piece.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _piece(cat: Pixels, rng: np.random.Generator) -> Pixels:
    side = int(rng.integers(60, 160))
    top, left = int(rng.integers(0, cat.shape[0] - side)), int(rng.integers(0, cat.shape[1] - side))
    piece = Image.fromarray(cat[top : top + side, left : left + side])
    return np.asarray(piece.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
