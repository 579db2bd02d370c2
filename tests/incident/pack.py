"""The development pack's images as pools of encoded pictures, and its model as a package with a reference.

One half of the in-distribution images calibrates: the even-numbered ones of every class. The other half is
the traffic. Damages are made of it as the pack's own sets were, which hold for too few images.
"""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from tests.incident.scenes import NORMAL
from tests.incident.stage import Site

ROOT = Path(__file__).parents[2]
NOISE_SIGMA = 25.0
_SEED = 0

Damage = Callable[[Image.Image, np.random.Generator], Image.Image]


def _noise(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(picture, np.float64)
    noisy = pixels + rng.normal(0, NOISE_SIGMA, pixels.shape)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


#: As in the pack, where it has the set: pixel for pixel the same for the images that it has damaged.
DAMAGES: Mapping[str, Damage] = {
    "blur_s1": lambda picture, rng: picture.filter(ImageFilter.GaussianBlur(1)),
    "noise_s25": _noise,
    "hflip": lambda picture, rng: ImageOps.mirror(picture),
}
OTHERS = {"dtd": "ood/dtd", "svhn": "ood/svhn", "static": "ood/uniform_u8"}
FROZEN = "frozen"


@dataclass(frozen=True)
class Calibrated:
    """The package and, for each score, a database with its reference."""

    home: Path
    model: Path
    pools: Mapping[str, Sequence[bytes]]
    references: Mapping[str, dict[str, Any]]  # by score: what `calibrate --json` said

    def site(self, score: str, name: str, source: str | None = None) -> Site:
        """A fresh one, with a database that holds this score's reference alone."""
        home = self.home / f"{name}-{score.replace('+', '-')}"
        home.mkdir()
        shutil.copy(_database(self.home, score), home / "oodwatch.db")
        return Site(home, self.model, f"sqlite:///{home / 'oodwatch.db'}", source or f"spool:{home}/images")


def prepare(pack: Path, home: Path, scores: Sequence[str], *, every: int = 2) -> Calibrated:
    """Package and calibrate with the commands of the README; read and make the pictures.

    One in `every` of the in-distribution images is traffic, the others calibrate.
    """
    files = sorted((pack / "id").glob("*/*.jpg"))
    model, half = home / "resnet20", home / "calibration"
    for file in files:
        if not _is_traffic(file, every):
            target = half / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    (home / "classes.txt").write_text("\n".join(sorted({file.parent.name for file in files})))
    oodwatch(
        *("package", model, "--architecture", f"{ROOT}/tests/golden/resnet20.py:resnet20", "--head", "linear"),
        *("--weights", pack / "weights/resnet20-12fca82f.th", "--classes", home / "classes.txt", "--input-size", 32),
        *("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--json"),
    )
    references = {
        score: oodwatch(
            *("calibrate", half, "--model", model, "--score", score, "--representative", "--json"),
            *("--database", f"sqlite:///{_database(home, score)}"),
        )
        for score in scores
    }
    return Calibrated(home, model, _pools(pack, [file for file in files if _is_traffic(file, every)]), references)


def make_topic(source: str) -> None:
    """A Kafka topic with one partition, made anew."""
    oodwatch("topics", "ensure", "--source", source, "--partitions", 1, "--replication", 1, "--json")


def _is_traffic(file: Path, every: int) -> bool:
    return int(file.stem) % every == 1


def _database(home: Path, score: str) -> Path:
    return home / f"{score.replace('+', '-')}.db"


def _pools(pack: Path, traffic: Sequence[Path]) -> dict[str, list[bytes]]:
    pools = {NORMAL: [file.read_bytes() for file in traffic]}
    for name, folder in OTHERS.items():
        pools[name] = [file.read_bytes() for file in sorted((pack / folder).rglob("*.*"))]
    rng = np.random.default_rng(_SEED)
    pictures = [Image.open(file).convert("RGB") for file in traffic]
    for name, damage in DAMAGES.items():
        pools[name] = [_png(damage(picture, rng)) for picture in pictures]
    pools[FROZEN] = pools[NORMAL][:1]
    return pools


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def oodwatch(*arguments: object) -> dict[str, Any]:
    """A command of the README in a process of its own; what it says with `--json`."""
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    return said
