"""What is measured on: pictures, and a calibrated deployment of an architecture with given weights."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.assembly.calibrating import run_calibration
from pipeline.models.packaging import make_package
from pipeline.models.preprocessing import Preprocessing
from pipeline.settings import Settings, SourceSettings, load_settings

NULL_NETWORK = """
import torch
from torch import nn


class Null(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


def null():
    return Null()
"""


def jpeg(width: int, height: int, seed: int) -> bytes:
    """Smooth waves with noise, quality 85, 4:2:0: about the bytes and the frequencies of a photograph."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 80 * np.sin(x / rng.uniform(3, 9) + y / rng.uniform(3, 9)) for _ in range(3)]
    noisy = np.clip(np.stack(waves, -1) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=85)
    return out.getvalue()


def deployment(
    home: Path,
    architecture: str,
    state: dict[str, torch.Tensor],
    head: str,
    *,
    side: int = 32,
    calibration_images: int = 200,
    database: str | None = None,
    source: str | None = None,
    **worker: object,
) -> Settings:
    """Package the weights, calibrate on pictures of the input size, and return the worker's settings."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "classes.txt").write_text("\n".join(f"class {i}" for i in range(len(state[f"{head}.bias"]))))
    torch.save(state, home / "weights.pt")
    third = (0.5, 0.5, 0.5)
    make_package(
        home / "model",
        architecture=architecture,
        weights=home / "weights.pt",
        classes=home / "classes.txt",
        head=head,
        preprocessing=Preprocessing(side, side, third, third),
    )
    files: list[tuple[Path, str | None]] = []
    for i in range(calibration_images):
        path = home / f"{i}.jpg"
        path.write_bytes(jpeg(side, side, 10**6 + i))
        files.append((path, None))
    settings = load_settings(
        database=database or f"sqlite:///{home / 'bench.db'}",
        source=SourceSettings(url=source or f"spool:{home / 'spool'}/images"),
        model=home / "model",
        worker=worker,
    )
    run_calibration(settings, files, target_fpr=0.05, temperature=1.0, representative=False)
    return settings


def null_deployment(home: Path, *, side: int = 32, **others: Any) -> Settings:
    """A network that costs next to nothing: what is measured is the pipeline."""
    home.mkdir(parents=True, exist_ok=True)
    code = home / "null.py"
    code.write_text(NULL_NETWORK)
    weights = {"head.weight": torch.randn(10, 3), "head.bias": torch.zeros(10)}
    return deployment(home, f"{code}:null", weights, "head", side=side, **others)
