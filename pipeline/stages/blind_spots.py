"""Damage calibration images, run the model, keep what each score says: the raw material of the blind-spot card."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.records import Float64s, Ints, Outputs
from pipeline.scoring.card import Examined
from pipeline.stages.damage import DAMAGES, STATIC, UNDAMAGED, damaged
from pipeline.stages.files import ScoredFiles
from pipeline.stages.inference import Model, Score

KINDS = (UNDAMAGED, *DAMAGES)


class BlindSpots:
    """Gathers batch by batch: one forward pass an image and kind; only scores and answers are kept."""

    def __init__(self, model: Model, scores: Mapping[str, Score], *, rng: np.random.Generator, batch: int = 64) -> None:
        self._model = model
        self._scores = scores
        self._rng = rng
        self._batch = batch
        self._gathered: dict[str, dict[str, list[Float64s]]] = {kind: {name: [] for name in scores} for kind in KINDS}
        self._answers: dict[str, list[Ints]] = {kind: [] for kind in KINDS}
        self._labels: list[int | None] = []

    def add(self, scored: ScoredFiles, labels: Sequence[int | None]) -> None:
        """Examine a scored batch; `labels` are class indices, None where unknown."""
        self._labels += labels
        self._keep(UNDAMAGED, scored.outputs)
        pixels = np.stack([image.pixels for image in scored.images])
        for kind in DAMAGES:
            images = damaged(pixels, kind, self._rng)
            for first in range(0, len(images), self._batch):
                self._keep(kind, self._model.predict(images[first : first + self._batch]))

    def examined(self) -> list[Examined]:
        """All kinds, the undamaged images first; nothing where no image was added."""
        if not self._labels:
            return []
        known = None if None in self._labels else np.array(self._labels)
        answers = {kind: np.concatenate(self._answers[kind]) for kind in KINDS}
        return [
            Examined(
                kind=kind,
                scores={name: np.concatenate(values) for name, values in self._gathered[kind].items()},
                right=None if known is None or kind == STATIC else answers[kind] == known,
                unchanged=answers[kind] == answers[UNDAMAGED],
            )
            for kind in KINDS
        ]

    def _keep(self, kind: str, outputs: Outputs) -> None:
        """What is not finite would become a dead letter in production: it counts as noticed."""
        for name, score in self._scores.items():
            scores = score(outputs)
            self._gathered[kind][name].append(np.where(scores.finite, scores.score, np.inf))
        self._answers[kind].append(scores.class_index)
