"""Image files through the worker's own preparation and model: for calibration and `oodwatch score`."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.records import DeadLetter, Outputs, Partition, PreparedImage, Reason, Record, Scores
from pipeline.stages.inference import Model, Score
from pipeline.stages.preparation import Preparation, Prepared

_NOWHERE = Partition("files", "", 0)
_DECODE_CHUNK = 16  # files in one task: what is measured together costs less


@dataclass(frozen=True, slots=True)
class ScoredFiles:
    """A batch of files; row i of outputs and scores belongs to images[i], whose file is files[i]."""

    files: tuple[int, ...]  # indices into the sequence that was given
    images: tuple[PreparedImage, ...]
    outputs: Outputs
    scores: Scores
    failed: tuple[tuple[int, str], ...]  # (index, why)


def score_files(
    paths: Sequence[Path],
    preparation: Preparation,
    model: Model,
    score: Score,
    *,
    batch: int = 64,
    threads: int = 2,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[ScoredFiles]:
    """Read, prepare and score files in order, a batch at a time and one batch ahead; memory is bounded."""
    starts = range(0, len(paths), batch)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        ahead: list[list[Future[list[Prepared]]]] = []
        for number, start in enumerate(starts):
            while len(ahead) <= number + 1 and len(ahead) < len(starts):
                first = starts[len(ahead)]
                chosen = range(first, min(first + batch, len(paths)))
                chunks = [chosen[i : i + _DECODE_CHUNK] for i in range(0, len(chosen), _DECODE_CHUNK)]
                ahead.append([pool.submit(prepare_files, paths, chunk, preparation) for chunk in chunks])
            prepared = [item for future in ahead[number] for item in future.result()]
            ahead[number] = []
            yield _score_batch(start, prepared, model, score)
            if stop():
                return


def prepare_files(paths: Sequence[Path], chunk: Sequence[int], preparation: Preparation) -> list[Prepared]:
    """Read and prepare the files of these numbers, in order; what is no image becomes a dead letter."""
    read = [_read(paths[index], index, preparation) for index in chunk]
    prepared = iter(preparation.prepare_all([item for item in read if isinstance(item, Record)]))
    return [next(prepared) if isinstance(item, Record) else item for item in read]


def _read(path: Path, index: int, preparation: Preparation) -> Record | DeadLetter:
    try:
        return Record(_NOWHERE, index, None, None, path.read_bytes())
    except OSError as error:
        nothing = Record(_NOWHERE, index, None, None, None)
        return DeadLetter(nothing, "read", Reason.UNDECODABLE, f"{error.strerror or error}", preparation.clock())


def _score_batch(start: int, prepared: Sequence[Prepared], model: Model, score: Score) -> ScoredFiles:
    failed = [(start + i, item.error) for i, item in enumerate(prepared) if isinstance(item, DeadLetter)]
    images = [(start + i, item) for i, item in enumerate(prepared) if isinstance(item, PreparedImage)]
    if not images:
        empty = np.empty((0, 0), np.float32)
        nothing = np.empty(0)
        no_scores = Scores(nothing, nothing, nothing, np.empty(0, np.int64), np.empty(0, np.bool_))
        return ScoredFiles((), (), Outputs(empty, empty), no_scores, tuple(failed))
    outputs = model.predict(np.stack([image.pixels for _, image in images]))
    scores = score(outputs)
    failed += [(images[i][0], "the model answered NaN or infinity") for i in np.flatnonzero(~scores.finite)]
    finite = np.flatnonzero(scores.finite)
    return ScoredFiles(
        files=tuple(images[i][0] for i in finite),
        images=tuple(images[i][1] for i in finite),
        outputs=Outputs(outputs.logits[finite], outputs.features[finite]),
        scores=Scores(
            energy=scores.energy[finite],
            score=scores.score[finite],
            msp=scores.msp[finite],
            class_index=scores.class_index[finite],
            finite=scores.finite[finite],
        ),
        failed=tuple(failed),
    )
