"""Score records in a child process, so that a record that kills processes kills only the child."""

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from pipeline.records import DeadLetter, Outputs, PreparedImage, Reason, Record
from pipeline.stages.preparation import Preparation

logger = logging.getLogger(__name__)

#: Called in the child; must be picklable. Returns the preparation and a model with `predict`.
Build = Callable[[], tuple[Preparation, Any]]

Isolated = tuple[PreparedImage, Outputs] | DeadLetter

_CHUNK = 32  # records a message: the one that kills costs a second child and its neighbours a pass alone


class Isolation:
    """A child process that prepares and scores records; made when first needed, and anew when it has died."""

    def __init__(self, build: Build, *, clock: Callable[[], datetime], patience_s: float = 60.0) -> None:
        self._build = build
        self._clock = clock
        self._patience_s = patience_s
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def score(self, records: Sequence[Record]) -> Iterator[Isolated]:
        """Each record's prepared image with its outputs; a dead letter where it is bad or kills the child."""
        for first in range(0, len(records), _CHUNK):
            yield from self._score(records[first : first + _CHUNK])

    def _score(self, records: Sequence[Record]) -> Iterator[Isolated]:
        """Together; one by one where that has killed the child."""
        pipe = self._ensure_child()
        try:
            pipe.send(records)
            answers: list[Isolated] | None = pipe.recv() if pipe.poll(self._patience_s) else None
            how = f"did not answer within {self._patience_s:.0f} s"
        except (EOFError, OSError):
            answers, how = None, "died"
        if answers is not None:
            yield from answers
        elif len(records) == 1:
            yield self._killed(records[0], how)
        else:
            logger.error("a child process %s on offsets %d to %d", how, records[0].offset, records[-1].offset)
            self.close()
            for record in records:
                yield from self._score([record])

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _ensure_child(self) -> Connection:
        if self._pipe is None:
            # spawn: a forked child would inherit threads' locks and a CUDA context that it cannot use.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._build), daemon=True)
            process.start()
            theirs.close()
            ours.recv()  # the model is loaded: the patience below is for the record alone
            self._process, self._pipe = process, ours
        return self._pipe

    def _killed(self, record: Record, how: str) -> DeadLetter:
        process = self._process
        if process is not None:
            process.join(timeout=1.0)
        code = None if process is None else process.exitcode
        self.close()
        logger.error("a child process %s on offset %d (exit code %s)", how, record.offset, code)
        return DeadLetter(
            record=record,
            stage="infer",
            reason=Reason.CRASH,
            error=f"workers died on this record; alone in a child process, it {how} (exit code {code})",
            at=self._clock(),
        )


def _serve(pipe: Connection, build: Build) -> None:
    preparation, model = build()
    pipe.send("ready")
    while True:
        try:
            records: Sequence[Record] = pipe.recv()
        except EOFError:
            return
        pipe.send(_score_together(preparation, model, records))


def _score_together(preparation: Preparation, model: Any, records: Sequence[Record]) -> list[Isolated]:
    """In the child; a model that refuses the images together is asked for each alone."""
    prepared = preparation.prepare_all(records)
    images = [item for item in prepared if isinstance(item, PreparedImage)]
    if not images:
        return [item for item in prepared if isinstance(item, DeadLetter)]
    try:
        outputs = model.predict(np.stack([image.pixels for image in images]))
    except Exception as error:
        if len(records) > 1:
            return [answer for record in records for answer in _score_together(preparation, model, [record])]
        return [_refused(images[0], f"{type(error).__name__}: {error}", preparation.clock())]
    rows = iter(range(len(images)))
    return [item if isinstance(item, DeadLetter) else (item, _row(outputs, next(rows))) for item in prepared]


def _row(outputs: Outputs, at: int) -> Outputs:
    return Outputs(outputs.logits[at : at + 1], outputs.features[at : at + 1])


def _refused(image: PreparedImage, error: str, now: datetime) -> DeadLetter:
    return DeadLetter(
        record=image.record,
        stage="infer",
        reason=Reason.CRASH,
        error=error,
        at=now,
        value_sha256=image.value_sha256,
        message=image.message,
    )
