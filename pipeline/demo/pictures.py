"""The encoded images that cameras send."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.demo import digits
from pipeline.demo.story import Scene
from pipeline.records import Pixels

_NOISE = tuple(float(strength) for strength in np.linspace(20, 130, 8))  # of the ramp, in grey levels
_LIGHT = 0.65
_EACH = 200


@dataclass(frozen=True, slots=True)
class Pictures:
    """By what they show; of a scene that grows, one sequence a step."""

    normal: Sequence[bytes]
    strange: Mapping[str, Sequence[Sequence[bytes]]]

    @classmethod
    def of(cls, images: digits.DemoImages, stream: Path) -> "Pictures":
        """Of the files that normal traffic is drawn from, and of what happens to some of them."""
        files = sorted(stream.iterdir())
        normal = [file.read_bytes() for file in files]
        some = np.stack([np.asarray(Image.open(file)) for file in files[:_EACH]])
        rng = np.random.default_rng(17)
        return cls(
            normal,
            {
                "cats": [_encoded(images.cats)],
                "noise": [_encoded(digits.noisy(some[:50], strength, rng)) for strength in _NOISE],
                "dim": [_encoded(digits.dimmed(some, _LIGHT))],
                "frozen": [normal[:1]],
                "rotated": [_encoded(digits.lying(some))],
            },
        )

    def shown(self, scene: Scene | None, at_s: float, rng: np.random.Generator) -> bytes:
        """One image, drawn anew."""
        if scene is None:
            return self.normal[int(rng.integers(len(self.normal)))]
        steps = self.strange[scene.what]
        step = steps[min(int(scene.depth(at_s) * len(steps)), len(steps) - 1)]
        return step[int(rng.integers(len(step)))]


def _encoded(pixels: Pixels) -> list[bytes]:
    found = []
    for image in pixels:
        file = BytesIO()
        Image.fromarray(image).save(file, "PNG", compress_level=1)
        found.append(file.getvalue())
    return found
