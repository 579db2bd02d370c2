"""Score one record in a child process, so that a record that kills processes kills only the child."""

import logging
import multiprocessing
from collections.abc import Callable
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


class Isolation:
    """A child process that prepares and scores records one at a time; made when first needed."""

    def __init__(self, build: Build, *, clock: Callable[[], datetime], patience_s: float = 60.0) -> None:
        self._build = build
        self._clock = clock
        self._patience_s = patience_s
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def score(self, record: Record) -> Isolated:
        """The prepared image with its outputs; a dead letter where the record is bad or kills the child."""
        pipe = self._ensure_child()
        try:
            pipe.send(record)
            if not pipe.poll(self._patience_s):
                return self._killed(record, f"did not answer within {self._patience_s:.0f} s")
            answer: Isolated = pipe.recv()
        except (EOFError, OSError):
            return self._killed(record, "died")
        return answer

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
            record: Record = pipe.recv()
        except EOFError:
            return
        pipe.send(_score(preparation, model, record))


def _score(preparation: Preparation, model: Any, record: Record) -> Isolated:
    prepared = preparation.prepare(record)
    if isinstance(prepared, DeadLetter):
        return prepared
    try:
        return prepared, model.predict(np.stack([prepared.pixels]))
    except Exception as error:
        return DeadLetter(
            record=record,
            stage="infer",
            reason=Reason.CRASH,
            error=f"{type(error).__name__}: {error}",
            at=preparation.clock(),
            value_sha256=prepared.value_sha256,
            message=prepared.message,
        )
