"""Files → records on a log, at a steady rate."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.ingest.image_files import FoundFile
from pipeline.ingest.source import NewRecord

_CONTENT_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".npy": "application/x-npy",
}


@dataclass(frozen=True, slots=True)
class ProducePlan:
    """What the headers of the records shall say."""

    segment: str | None = None
    segment_from_folder: bool = False
    label_from_folder: bool = False
    repeat: int = 1
    start: datetime | None = None  # event time of the first record; None: no event time, the log's counts
    interval_s: float = 1.0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ProduceResult:
    """What was sent."""

    sent: int
    bytes: int
    seconds: float


def messages(
    files: Sequence[FoundFile], plan: ProducePlan, *, on_failure: Callable[[str, str], None] = lambda file, why: None
) -> Iterator[NewRecord]:
    """One record a file and round: id = path below its argument (with #2, #3 in later rounds).

    A file that cannot be read is reported and left out.
    """
    number = 0
    for turn in range(1, plan.repeat + 1):
        for file in files:
            try:
                value = file.path.read_bytes()
            except OSError as error:
                on_failure(file.name, error.strerror or str(error))
                continue
            yield NewRecord(value=value, headers=_headers(file, plan, value, turn, number))
            number += 1


def send(
    records: Iterable[NewRecord],
    append: Callable[[Sequence[NewRecord]], Sequence[tuple[int, int] | None]],
    *,
    rate: float | None,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    batch: int = 500,
    progress: Callable[[int, int], None] = lambda sent, size: None,
    stop: Callable[[], bool] = lambda: False,
) -> ProduceResult:
    """Append records, `rate` a second on average (None: as fast as it goes), in batches.

    `append` says where each record went, None for one that the log refused: it does not count as sent.

    The schedule is absolute, so that pauses do not add up; a batch is what falls due in 50 ms.
    """
    began = clock()
    size = batch if rate is None else max(1, min(batch, int(rate / 20)))
    offered = sent = total = 0
    waiting: list[NewRecord] = []

    def flush() -> None:
        nonlocal offered, sent, total
        taken = [record for record, place in zip(waiting, append(waiting), strict=True) if place is not None]
        offered += len(waiting)
        sent += len(taken)
        total += sum(len(record.value or b"") for record in taken)
        waiting.clear()
        progress(sent, total)

    for record in records:
        if stop():
            break
        waiting.append(record)
        if len(waiting) == size:
            flush()
            if rate is not None and (pause := began + offered / rate - clock()) > 0:
                sleep(pause)
    if waiting:
        flush()
    return ProduceResult(sent, total, clock() - began)


def _headers(
    file: FoundFile, plan: ProducePlan, value: bytes, turn: int, number: int
) -> tuple[tuple[str, bytes | None], ...]:
    headers = {"id": file.relative if turn == 1 else f"{file.relative}#{turn}"}
    headers["sha256"] = hashlib.sha256(value).hexdigest()
    if content_type := _CONTENT_TYPES.get(file.path.suffix.lower()):
        headers["content-type"] = content_type
    if plan.segment is not None or plan.segment_from_folder:
        headers["segment"] = file.parent if plan.segment is None else plan.segment
    if plan.label_from_folder:
        headers["label"] = file.parent
    if plan.start is not None:
        at = plan.start + timedelta(seconds=number * plan.interval_s)
        headers["ce_time"] = at.isoformat().replace("+00:00", "Z")
    headers |= dict(plan.headers)
    # A file's name need not be UTF-8, a header has to be.
    return tuple((name, text.encode("utf-8", "backslashreplace")) for name, text in headers.items())
