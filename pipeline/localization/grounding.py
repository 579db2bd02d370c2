"""Words → boxes, by a zero-shot detector from a local folder.

Segment Anything's own text prompts were never released; a detector's boxes are its prompts instead.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.errors import UsageError
from pipeline.localization.local_model import load_local, read_config
from pipeline.localization.regions import Box
from pipeline.records import Pixels

_TYPES = ("owlvit", "owlv2", "grounding-dino", "mm-grounding-dino")


class Grounded(NamedTuple):
    """Where the detector sees what the words say."""

    box: Box
    score: float  # its confidence, 0..1


class TextGrounder:
    """A loaded detector (OWL-ViT, OWLv2, Grounding DINO). Raises UsageError for a folder that holds none."""

    def __init__(self, folder: Path, *, device: torch.device, threshold: float = 0.1) -> None:
        kind = read_config(folder, "--grounder").get("model_type")
        if kind not in _TYPES:
            raise UsageError(
                f"--grounder {folder}: holds a model of type {kind!r}; name a zero-shot detector ({', '.join(_TYPES)})"
            )
        self._model, self._processor = load_local(folder, "--grounder", _classes)
        self._model.eval().to(device)
        self._device = device
        self._threshold = threshold

    def find(self, pixels: Pixels, text: str, most: int = 5) -> list[Grounded]:
        """The boxes of what the text names, the most confident first; none where the detector sees none."""
        height, width = pixels.shape[:2]
        inputs = self._processor(text=[[text]], images=pixels, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        (found,) = self._processor.post_process_grounded_object_detection(
            outputs, threshold=self._threshold, target_sizes=[(height, width)]
        )
        limit = torch.tensor([width, height, width, height]) - 1.0
        boxes = [Box(*box) for box in found["boxes"].cpu().clamp(min=0).minimum(limit).tolist()]
        grounded = [
            Grounded(box, score)
            for box, score in zip(boxes, found["scores"].cpu().tolist(), strict=True)
            if box.x1 > box.x0 and box.y1 > box.y0
        ]
        return sorted(grounded, key=lambda one: -one.score)[:most]


def _classes() -> tuple[Any, Any]:
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    return AutoModelForZeroShotObjectDetection, AutoProcessor
