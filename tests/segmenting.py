"""A tiny Segment Anything model with the official code's answers, and a tiny zero-shot detector."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.localization.embeddings import EmbeddingCache
from pipeline.localization.regions import Box
from pipeline.localization.sam import AutomaticLimits, SamSegmenter
from pipeline.localization.segmenter import Picture, Point, Prompt

GOLDEN = Path(__file__).parent / "golden"
SAM = GOLDEN / "sam_tiny"
KINDS = ("point", "two_points", "box", "point_box")

#: Every mask of the official 8 x 8 grid, sure or not: random weights are never sure.
ALL = AutomaticLimits(points_per_side=8, min_score=-np.inf, min_stability=-1, max_box_overlap=1)


def official() -> dict[str, np.ndarray]:
    """The image and the official code's answers."""
    with np.load(GOLDEN / "sam_official_outputs.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def prompts() -> dict[str, Prompt]:
    """The prompts that were asked, by kind."""
    described: dict[str, dict[str, Any]] = json.loads((GOLDEN / "sam_prompts.json").read_text())
    return {
        kind: Prompt(
            tuple(
                Point(x, y, label == 1)
                for (x, y), label in zip(said.get("points", []), said.get("labels", []), strict=True)
            ),
            Box(*said["box"]) if "box" in said else None,
        )
        for kind, said in described.items()
    }


def picture(key: str = "official") -> Picture:
    """The official image."""
    return Picture(official()["image"], key)


def tiny_sam(cache: Path, *, automatic: AutomaticLimits = ALL, max_bytes: int = 10**8) -> SamSegmenter:
    """The tiny model with a cache of its own."""
    torch.set_num_threads(1)
    return SamSegmenter(SAM, EmbeddingCache(cache, max_bytes), device=torch.device("cpu"), automatic=automatic)


class Encodings:
    """Counts how often a segmenter's encoder runs."""

    def __init__(self, segmenter: SamSegmenter) -> None:
        self.count = 0
        segmenter._model.vision_encoder.register_forward_hook(self._counted)

    def _counted(self, *_: object) -> None:
        self.count += 1


def save_tiny_detector(folder: Path) -> Path:
    """A random OWL-ViT of 64 pixels that knows single bytes as words."""
    from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTProcessor
    from transformers.models.clip.tokenization_clip import CLIPTokenizer
    from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil
    from transformers.utils import logging as chatter

    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    width = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"vocab_size": 98, "max_position_embeddings": 16, "pad_token_id": 0}
    config = OwlViTConfig(
        text_config={**width, **words, "bos_token_id": 96, "eos_token_id": 97},
        vision_config={**width, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        OwlViTForObjectDetection(config).save_pretrained(folder)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    known = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {word: i for i, word in enumerate(known)} | {"<|startoftext|>": 96, "<|endoftext|>": 97}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    images = OwlViTImageProcessorPil(size={"height": 64, "width": 64})
    OwlViTProcessor(images, tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def random_boxes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that overlap, and scores of which some are equal."""
    rng = np.random.default_rng(7)
    corners = rng.uniform(0, 100, (n, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 60, (n, 2))], axis=1), rng.integers(0, 50, n) / 50


def suppressed_by_definition(boxes: np.ndarray, scores: np.ndarray, limit: float) -> list[int]:
    """Greedy box suppression, one pair at a time."""

    def shared(a: np.ndarray, b: np.ndarray) -> float:
        wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        return float(wide * high / (areas - wide * high))

    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(shared(boxes[i], boxes[j]) <= limit for j in kept):
            kept.append(i)
    return kept


_WITHOUT = """
import sys
sys.path[:] = [{packages!r}, {repository!r}, *[path for path in sys.path if "site-packages" not in path]]
import importlib.util
assert importlib.util.find_spec("torchvision") is None
from pathlib import Path
from tests.segmenting import official, picture, prompts, tiny_sam
segmenter = tiny_sam(Path({cache!r}))
print(len(segmenter.segment(picture(), prompts()["point"])), len(segmenter.everything(picture())))
assert "torchvision" not in sys.modules
"""


def found_without_torchvision(folder: Path) -> tuple[int, int]:
    """Masks of a click and of the search for all, in a process whose packages lack torchvision."""
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "torchvision" not in path.name:
            (packages / path.name).symlink_to(path)
    repository = Path(__file__).parents[1]
    code = _WITHOUT.format(packages=str(packages), repository=str(repository), cache=str(folder / "cache"))
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    masks, regions = ran.stdout.split()
    return int(masks), int(regions)
