"""A whole deployment in little: a linear model on 8x8 pixels, calibrated, with a spool and a database."""

import io
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.assembly.calibrating import run_calibration
from pipeline.assembly.working import run_worker
from pipeline.ingest.source import NewRecord
from pipeline.ingest.spool import Spool
from pipeline.models.package import ModelPackage
from pipeline.models.packaging import make_package
from pipeline.models.preprocessing import Preprocessing
from pipeline.settings import Settings, SourceSettings, load_settings
from pipeline.stages.flow import Progress

SIDE = 8
ARCHITECTURE = '''
import os
import torch
from torch import nn


class Tiny(nn.Module):
    """Mean colours of four quadrants, then linear. Magic pixels misbehave, to test the worker."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.flat = nn.Flatten()
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        magic = x[:, :, 0, 0]
        if (magic[:, 0] == 1).any() and (magic[:, 1] == 0).any() and (magic[:, 2] == 1).any():
            for pixel in magic:
                if pixel[0] == 1 and pixel[1] == 0 and pixel[2] == 1:
                    self.misbehave(os.environ.get("TINY_MAGIC", ""))
        features = self.flat(self.pool(x))
        if os.environ.get("TINY_MAGIC") == "nan":
            is_magic = (magic[:, 0] == 1) & (magic[:, 1] == 0) & (magic[:, 2] == 1)
            features = torch.where(is_magic[:, None], torch.nan, features)
        return self.head(features)

    def misbehave(self, how):
        if how == "die":
            os._exit(139)
        if how == "raise":
            raise ValueError("magic\\0pixel")
        if how == "oom":
            raise torch.OutOfMemoryError("magic pixel is too large")


def tiny():
    return Tiny()
'''


def pixels(seed: int, *, magic: bool = False) -> NDArray[np.uint8]:
    """A small random picture; the magic one makes the tiny model misbehave."""
    picture = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    picture[0, 0] = (255, 0, 255) if magic else (0, 0, 0)
    return picture


def png(seed: int, *, magic: bool = False) -> bytes:
    """The same as a file."""
    out = io.BytesIO()
    Image.fromarray(pixels(seed, magic=magic)).save(out, "PNG")
    return out.getvalue()


def energies(pictures: NDArray[np.uint8], weights: Path) -> NDArray[np.float64]:
    """What the tiny model's energies are, at temperature 1, by plain NumPy: (B, SIDE, SIDE, 3) -> (B,)."""
    head = torch.load(weights, weights_only=True)
    half = SIDE // 2
    quadrants = pictures.reshape(-1, 2, half, 2, half, 3).mean(axis=(2, 4)) / 255.0
    features = quadrants.transpose(0, 3, 1, 2).reshape(len(pictures), -1)
    logits = features @ head["head.weight"].numpy().T.astype(np.float64) + head["head.bias"].numpy()
    return -np.asarray(np.logaddexp.reduce(logits, axis=1))


@dataclass(frozen=True)
class Deployment:
    """Where everything is; the database by default beside it."""

    home: Path
    database_url: str | None = None
    package: str = "tiny"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'oodwatch.db'}"

    @property
    def source(self) -> str:
        return f"spool:{self.home / 'spool'}/images"

    @property
    def model(self) -> Path:
        return self.home / self.package

    def settings(self, **worker: object) -> Settings:
        return load_settings(
            database=self.database,
            source=SourceSettings(url=self.source),
            model=self.model,
            worker={"max_batch": 16, **worker},
        )

    def spool(self, partitions: int | None = None) -> Spool:
        return Spool(self.home / "spool", "images", partitions=partitions)

    def produce(self, values: list[bytes | None], partitions: int | None = None) -> list[tuple[int, int]]:
        spool = self.spool(partitions)
        places = spool.append([NewRecord(value) for value in values])
        spool.close()
        return places

    def drain(self, **worker: object) -> Progress:
        return run_worker(self.settings(**worker), start_at="earliest", drain=True, stop=threading.Event())


def make_package_of(home: Path, *, side: int = SIDE) -> ModelPackage:
    """The tiny model's package in a folder, with its weights beside it."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "net.py").write_text(ARCHITECTURE)
    (home / "classes.txt").write_text("red\ngreen\nblue\n")
    generator = torch.Generator().manual_seed(0)
    weights = {"head.weight": torch.randn(3, 12, generator=generator), "head.bias": torch.zeros(3)}
    torch.save(weights, home / "weights.pt")
    return make_package(
        home / "tiny",
        architecture=f"{home / 'net.py'}:tiny",
        weights=home / "weights.pt",
        classes=home / "classes.txt",
        head="head",
        preprocessing=Preprocessing(side, side, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    )


def make_deployment(home: Path, *, images: int = 220, database_url: str | None = None, side: int = SIDE) -> Deployment:
    """Package, calibrate on random pictures, nothing produced yet."""
    torch.set_num_threads(1)
    make_package_of(home, side=side)
    folder = home / "calibration"
    folder.mkdir(exist_ok=True)
    for i in range(images):
        (folder / f"{i:04d}.png").write_bytes(png(10_000 + i))
    deployment = Deployment(home, database_url)
    files: list[tuple[Path, str | None]] = [(path, None) for path in sorted(folder.iterdir())]
    run_calibration(deployment.settings(), files, target_fpr=0.05, temperature=1.0, representative=False)
    return deployment
