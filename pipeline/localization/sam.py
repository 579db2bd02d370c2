"""Segment Anything (Kirillov et al. 2023), through transformers' SamModel, from a local folder alone.

The encoder sees a picture once; its embedding is cached, and every prompt after that costs a decode. What
the official code does and this does as well: the longer side becomes the model's, the rest is padded
after normalising; coordinates are scaled with it; a prompt that may mean several things gets three masks;
the previous mask comes back as its low-resolution logits, never as a picture; masks are logits, cut at 0.
Runs without torchvision.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UsageError
from pipeline.localization.embeddings import EmbeddingCache
from pipeline.localization.local_model import digest_of, load_local, read_config
from pipeline.localization.regions import Mask, box_of, suppress
from pipeline.localization.segmenter import Candidate, Picture, Prompt
from pipeline.records import Float32s

_DRAWN_LOGIT = 10.0  # how sure a drawn region is: the official masks' logits reach about as far
_STRICTER = 1.0  # logits that a stable mask may be cut at instead of 0


@dataclass(frozen=True, slots=True)
class AutomaticLimits:
    """How a picture is searched for all of its regions; the defaults but for the grid are the paper's."""

    points_per_side: int = 12  # the paper's 32 take minutes on a CPU
    min_score: float = 0.88  # predicted intersection over union
    min_stability: float = 0.95
    max_box_overlap: float = 0.7


class SamSegmenter:
    """A loaded model. Raises UsageError for a folder that holds none that can be used."""

    def __init__(
        self,
        folder: Path,
        cache: EmbeddingCache,
        *,
        device: torch.device,
        automatic: AutomaticLimits = AutomaticLimits(),
        batch: int = 16,
    ) -> None:
        self._model, self._processor = _load(folder)
        self._model.eval().to(device)
        self._device = device
        self._cache = cache
        self._automatic = automatic
        self._batch = batch
        self._digest = digest_of(folder)

    @property
    def name(self) -> str:
        """sam@ and the digest of weights and settings."""
        return f"sam@{self._digest[:12]}"

    def segment(self, picture: Picture, prompt: Prompt) -> list[Candidate]:
        """See `Segmenter`; the candidates as the model orders them: part, thing, whole."""
        logits, scores = self.decode(
            self.embedding(picture),
            picture.pixels.shape[:2],
            prompt,
            multimask=prompt.is_ambiguous and not prompt.wants_one,
        )
        masks, stability = self._masks(logits[:, None], picture.pixels.shape[:2])
        return [
            Candidate(masks[i], float(scores[i]), float(stability[i]), logits[i].cpu().numpy())
            for i in range(len(scores))
        ]

    def embedding(self, picture: Picture) -> Tensor:
        """(1, C, h, w): from the cache, else by the encoder."""
        found = self._cache.find(picture.key, self._digest)
        if found is not None:
            return torch.from_numpy(found).to(self._device)
        with torch.inference_mode():
            pixels = self._processor(images=picture.pixels, return_tensors="pt")["pixel_values"]
            embedding: Tensor = self._model.get_image_embeddings(pixels.to(self._device))
        self._cache.keep(picture.key, self._digest, embedding.cpu().numpy())
        return embedding

    def decode(
        self, embedding: Tensor, size: tuple[int, ...], prompt: Prompt, *, multimask: bool
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """Low-resolution logits (n, h, w) and predicted intersections over union (n,); n is 3 or 1."""
        height, width = self._fitted(size)
        scale = torch.tensor([width / size[1], height / size[0]])
        inputs: dict[str, Tensor] = {}
        if prompt.points:
            at = torch.tensor([[point.x, point.y] for point in prompt.points]) * scale
            inside = torch.tensor([int(point.is_inside) for point in prompt.points])
            inputs |= {"input_points": at[None, None], "input_labels": inside[None, None]}
        if prompt.box is not None:
            inputs["input_boxes"] = (torch.tensor(prompt.box).view(2, 2) * scale).view(1, 1, 4)
        if prompt.previous is not None:
            inputs["input_masks"] = self._previous(prompt.previous)[None, None]
        elif prompt.drawn is not None:
            inputs["input_masks"] = self._drawn(prompt.drawn)[None, None]
        with torch.inference_mode():
            made = self._model(
                image_embeddings=embedding,
                multimask_output=multimask,
                **{name: value.to(self._device) for name, value in inputs.items()},
            )
        return made.pred_masks[0, 0], made.iou_scores[0, 0].cpu().numpy()

    def everything(self, picture: Picture) -> list[Candidate]:
        """A click on every point of a grid; what is sure, stable and not the same box as a better one stays."""
        limits = self._automatic
        size = picture.pixels.shape[:2]
        found = [
            candidate
            for logits, scores in self._clicks(self.embedding(picture), size)
            for candidate in self._sure(logits, scores, size)
        ]
        if not found:
            return []
        boxes = np.array([box_of(candidate.mask) for candidate in found])
        kept = suppress(boxes, np.array([candidate.score for candidate in found]), limits.max_box_overlap)
        return [found[i] for i in kept]

    def _clicks(self, embedding: Tensor, size: tuple[int, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (n, h, w) and scores (n,) of a batch of clicks, three masks each."""
        side = self._automatic.points_per_side
        height, width = self._fitted(size)
        steps = (torch.arange(side) + 0.5) / side
        grid = torch.stack(torch.meshgrid(steps * width, steps * height, indexing="xy"), -1).view(-1, 1, 2)
        for points in torch.split(grid.to(self._device), self._batch):
            with torch.inference_mode():
                made = self._model(
                    image_embeddings=embedding,
                    input_points=points[None],
                    input_labels=torch.ones(1, len(points), 1, dtype=torch.long, device=self._device),
                    multimask_output=True,
                )
            yield made.pred_masks[0].flatten(0, 1), made.iou_scores[0].flatten()

    def _sure(self, logits: Tensor, scores: Tensor, size: tuple[int, ...]) -> list[Candidate]:
        chosen = torch.nonzero(scores > self._automatic.min_score).flatten()
        if not len(chosen):
            return []
        masks, stability = self._masks(logits[chosen][:, None], size)
        return [
            Candidate(mask, float(scores[at]), float(stable), logits[at].cpu().numpy())
            for at, mask, stable in zip(chosen.tolist(), masks, stability, strict=True)
            if stable >= self._automatic.min_stability and mask.any()
        ]

    def _masks(self, logits: Tensor, size: tuple[int, ...]) -> tuple[list[Mask], NDArray[np.float64]]:
        """Masks (H, W) of logits (n, 1, h, w), and their stability: NaN where even the laxer cut is empty."""
        (large,) = self._processor.post_process_masks(
            [logits], [list(size)], [list(self._fitted(size))], binarize=False
        )
        large = large[:, 0]
        strict = (large > _STRICTER).sum((1, 2)).double()
        lax = (large > -_STRICTER).sum((1, 2)).double()
        return list((large > 0).cpu().numpy()), (strict / lax).cpu().numpy()

    def _drawn(self, mask: Mask) -> Tensor:
        """A region (H, W) as low-resolution logits of the padded square: ± 10."""
        height, width = self._fitted(mask.shape)
        side = 4 * self._model.config.prompt_encoder_config.image_embedding_size
        unit = side / self._processor.size["longest_edge"]
        small = (max(1, round(height * unit)), max(1, round(width * unit)))
        shares = functional.interpolate(
            torch.from_numpy(mask)[None, None].float(), small, mode="bilinear", antialias=True
        )
        # A region that is thinner than a cell would vanish at one half.
        cut = min(0.5, float(shares.max()) / 2)
        padded = functional.pad(shares[0, 0] > cut, (0, side - small[1], 0, side - small[0]))
        return torch.where(padded, _DRAWN_LOGIT, -_DRAWN_LOGIT)

    def _previous(self, logits: Float32s) -> Tensor:
        side = 4 * self._model.config.prompt_encoder_config.image_embedding_size
        if logits.shape != (side, side):
            raise UsageError(f"logits of shape {logits.shape} are not this model's, whose are {side} x {side}")
        return torch.from_numpy(logits)

    def _fitted(self, size: tuple[int, ...]) -> tuple[int, int]:
        """(H, W) of the picture after its longer side became the model's."""
        scale = self._processor.size["longest_edge"] / max(size)
        return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def _load(folder: Path) -> tuple[Any, Any]:
    kind = read_config(folder, "--sam").get("model_type")
    if kind != "sam":
        raise UsageError(
            f"--sam {folder}: holds a model of type {kind!r}; name one of type 'sam', as facebook/sam-vit-base has it"
        )
    return load_local(folder, "--sam", _classes)


def _classes() -> tuple[Any, Any]:
    from transformers.models.sam import SamModel
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    return SamModel, SamImageProcessorPil  # the other processor needs torchvision
