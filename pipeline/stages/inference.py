"""Batches → logits, features → energy. Owns the device; isolates what a batch cannot survive.

Out of memory halves the batch and goes on. Any other failure is bisected to the culprit, which becomes
a dead letter while its neighbours are scored. A model that fails on most images is not the records'
fault: the worker then stops, before it has emptied a topic into the dead letters.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np

from pipeline.errors import ModelFailure
from pipeline.records import (
    DeadLetter,
    Float64s,
    Ints,
    Outputs,
    Pixels,
    PreparedImage,
    Range,
    Reason,
    Record,
    Reference,
    ScoredBatch,
    Scores,
)
from pipeline.stages.preparation import Prepared

logger = logging.getLogger(__name__)


class Model(Protocol):
    """The part of a classifier that the worker needs."""

    def predict(self, batch: Pixels) -> Outputs:
        """Logits and features of (B, N, N, 3) uint8 images."""


Score = Callable[[Outputs], Scores]
SupportOf = Callable[[Float64s], Float64s]  # of projected features (n, d): (n,) in 0..1
ScoreIsolated = Callable[[Sequence[Record]], Iterable[tuple[PreparedImage, Outputs] | DeadLetter]]


class Inference:
    """Scores prepared ranges, never more than `cap` images in one forward pass."""

    def __init__(
        self,
        model: Model,
        score: Score,
        reference: Reference,
        *,
        max_batch: int,
        is_out_of_memory: Callable[[BaseException], bool],
        is_fatal: Callable[[BaseException], bool],
        free_memory: Callable[[], None],
        score_isolated: ScoreIsolated,
        clock: Callable[[], datetime],
        support: SupportOf | None = None,
        breaker_window: int = 1000,
    ) -> None:
        self._model = model
        self._score = score
        self._reference = reference
        self._max_batch = max_batch
        self._is_out_of_memory = is_out_of_memory
        self._is_fatal = is_fatal
        self._free_memory = free_memory
        self._score_isolated = score_isolated
        self._clock = clock
        self._support = support
        self._recent_failures: deque[bool] = deque(maxlen=breaker_window)
        self._good_batches = 0
        self.cap = max_batch

    def score_ranges(self, ranges: Sequence[Range], prepared: Sequence[Sequence[Prepared]]) -> ScoredBatch:
        """Run the model over the images of several ranges; every record ends scored or dead.

        `prepared[i]` holds the prepared records of ranges[i]; none where the range is to be scored
        in isolation: its records are not even decoded in this process.
        """
        dead: list[tuple[int, DeadLetter]] = []
        images: list[PreparedImage] = []
        range_index: list[int] = []
        for at, items in enumerate(prepared):
            for item in items:
                if isinstance(item, DeadLetter):
                    dead.append((at, item))
                else:
                    images.append(item)
                    range_index.append(at)
        blocks, failures = self._run(images)
        dead += [(range_index[i], letter) for i, letter in failures.items()]
        if failures:
            kept = [i for i in range(len(images)) if i not in failures]
            images, range_index = [images[i] for i in kept], [range_index[i] for i in kept]
        for at, portion in enumerate(ranges):
            for answer in self._score_isolated(portion.records) if portion.isolated else ():
                if isinstance(answer, DeadLetter):
                    dead.append((at, answer))
                else:
                    images.append(answer[0])
                    range_index.append(at)
                    blocks.append(answer[1])
        return self._batch(tuple(ranges), images, np.array(range_index, dtype=np.int64), self._join(blocks), dead)

    def _batch(
        self,
        ranges: tuple[Range, ...],
        images: Sequence[PreparedImage],
        range_index: Ints,
        outputs: Outputs,
        dead: list[tuple[int, DeadLetter]],
    ) -> ScoredBatch:
        """Score the outputs; what is not finite becomes a dead letter."""
        scores = self._score(outputs)
        for i in np.flatnonzero(~scores.finite).tolist():
            letter = self._letter(images[i], Reason.NOT_FINITE, "the model answered NaN or infinity")
            dead.append((int(range_index[i]), letter))
        self._check_breaker(len(images), dead)
        finite = np.flatnonzero(scores.finite)
        features = outputs.features[finite]
        reference = self._reference
        projected = (features - reference.feature_mean) @ reference.projection
        return ScoredBatch(
            reference=reference,
            ranges=ranges,
            images=tuple(images[i] for i in finite.tolist()),
            range_index=range_index[finite],
            outputs=Outputs(outputs.logits[finite], features),
            scores=Scores(
                energy=scores.energy[finite],
                score=scores.score[finite],
                msp=scores.msp[finite],
                class_index=scores.class_index[finite],
                finite=scores.finite[finite],
            ),
            projected=projected,
            dead=tuple(dead),
            support=None if self._support is None else self._support(projected),
        )

    def _run(self, images: Sequence[PreparedImage]) -> tuple[list[Outputs], dict[int, DeadLetter]]:
        """Outputs in blocks, in order, of all images but those that failed, which are given by position."""
        blocks: list[Outputs] = []
        failures: dict[int, DeadLetter] = {}
        done = 0
        while done < len(images):
            portion = images[done : done + self.cap]
            try:
                outputs = self._model.predict(np.stack([image.pixels for image in portion]))
            except Exception as error:
                if self._is_fatal(error):
                    raise
                if self._is_out_of_memory(error) and len(portion) > 1:
                    self._shrink(len(portion), error)
                    continue
                self._bisect(portion, done, error, blocks, failures)
            else:
                blocks.append(outputs)
                self._grow()
            done += len(portion)
        return blocks, failures

    def _bisect(
        self,
        images: Sequence[PreparedImage],
        first: int,
        error: Exception,
        blocks: list[Outputs],
        failures: dict[int, DeadLetter],
    ) -> None:
        """Halve what failed until the culprits are alone; `first` is the position of images[0]."""
        if len(images) == 1:
            reason = Reason.OOM if self._is_out_of_memory(error) else Reason.CRASH
            failures[first] = self._letter(images[0], reason, f"{type(error).__name__}: {error}")
            return
        middle = len(images) // 2
        for half, start in ((images[:middle], first), (images[middle:], first + middle)):
            try:
                blocks.append(self._model.predict(np.stack([image.pixels for image in half])))
            except Exception as again:
                if self._is_fatal(again):
                    raise
                self._bisect(half, start, again, blocks, failures)

    def _shrink(self, size: int, error: Exception) -> None:
        self._free_memory()
        self.cap = max(1, size // 2)
        self._good_batches = 0
        logger.warning("out of memory with %d images (%s); going on with %d", size, error, self.cap)

    def _grow(self) -> None:
        self._good_batches += 1
        if self.cap < self._max_batch and self._good_batches % 100 == 0:
            self.cap = min(self._max_batch, self.cap + max(1, self.cap // 10))

    def _join(self, blocks: Sequence[Outputs]) -> Outputs:
        if blocks:
            return Outputs(
                np.concatenate([block.logits for block in blocks]), np.concatenate([block.features for block in blocks])
            )
        reference = self._reference
        return Outputs(
            np.empty((0, len(reference.classes)), np.float32),
            np.empty((0, len(reference.feature_mean)), np.float32),
        )

    def _letter(self, image: PreparedImage, reason: Reason, error: str) -> DeadLetter:
        return DeadLetter(
            record=image.record,
            stage="infer",
            reason=reason,
            error=error,
            at=self._clock(),
            value_sha256=image.value_sha256,
            message=image.message,
        )

    def _check_breaker(self, tried: int, dead: Sequence[tuple[int, DeadLetter]]) -> None:
        failed = sum(letter.stage == "infer" for _, letter in dead)
        self._recent_failures.extend([True] * failed + [False] * (tried - failed))
        window = self._recent_failures.maxlen or 0
        if len(self._recent_failures) == window and sum(self._recent_failures) > window // 2:
            raise ModelFailure(
                f"the model failed on {sum(self._recent_failures)} of the last {window} images, lastly with:"
                f" {dead[-1][1].error if dead else '?'}; check weights, dtype and device, then start the worker"
                " again: it goes on where the database stands"
            )
