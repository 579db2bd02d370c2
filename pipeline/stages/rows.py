"""What one transaction writes, as plain rows: pure functions of a scored batch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.message import identity
from pipeline.records import (
    ClockSource,
    DeadLetter,
    Float64s,
    Ints,
    Outputs,
    Partition,
    PreparedImage,
    Range,
    Record,
    Reference,
    ScoredBatch,
    Scores,
)
from pipeline.shift.rollup import RollUp, encode, summarise_groups
from pipeline.storage.rollup_parts import NewPart
from pipeline.storage.schema import to_microseconds
from pipeline.storage.scores import NewDeadLetter, NewScore
from pipeline.storage.streams import Advance

TICK = timedelta(seconds=60)
_TICK_US = TICK // timedelta(microseconds=1)
_NEVER = np.iinfo(np.int64).min
_MAX_CLAIM = 200  # characters
_CLOCK_CODES = {ClockSource.EVENT: 0, ClockSource.RECORD: 1, ClockSource.ARRIVAL: 2}


@dataclass(frozen=True, slots=True)
class Entry:
    """A scored batch with what the writer knows about it; row i of the arrays belongs to images[i]."""

    batch: ScoredBatch
    flags: NDArray[np.bool_]  # OOD: score > threshold
    repeats: NDArray[np.bool_]  # same value as the segment's previous image
    counted: NDArray[np.bool_]  # no drill: part of every statistic
    event_times: Ints  # microseconds since 1970, UTC
    store_s: float = 0.0  # once it is committed: how long that took, retries included, seconds

    @property
    def ticks(self) -> Ints:
        """Start of each image's tick, microseconds."""
        return self.event_times - self.event_times % _TICK_US


def without_ranges(entry: Entry, dropped: Collection[int]) -> Entry:
    """The same entry without the ranges of these indices and all that came from them."""
    batch = entry.batch
    kept = [at for at in range(len(batch.ranges)) if at not in dropped]
    renumbered = {at: new for new, at in enumerate(kept)}
    rows = np.flatnonzero(np.isin(batch.range_index, kept))
    scores = batch.scores
    return Entry(
        batch=replace(
            batch,
            ranges=tuple(batch.ranges[at] for at in kept),
            images=tuple(batch.images[row] for row in rows),
            range_index=np.array([renumbered[at] for at in batch.range_index[rows].tolist()], dtype=np.int64),
            outputs=Outputs(batch.outputs.logits[rows], batch.outputs.features[rows]),
            scores=Scores(
                energy=scores.energy[rows],
                score=scores.score[rows],
                msp=scores.msp[rows],
                class_index=scores.class_index[rows],
                finite=scores.finite[rows],
            ),
            projected=batch.projected[rows],
            dead=tuple((renumbered[at], letter) for at, letter in batch.dead if at in renumbered),
            support=None if batch.support is None else batch.support[rows],
        ),
        flags=entry.flags[rows],
        repeats=entry.repeats[rows],
        counted=entry.counted[rows],
        event_times=entry.event_times[rows],
        store_s=entry.store_s,
    )


def advances(entry: Entry, log_ends: Mapping[Partition, int]) -> list[Advance]:
    """What each range does to its cursor."""
    batch = entry.batch
    scored = np.bincount(batch.range_index, minlength=len(batch.ranges)).tolist()
    dead = np.bincount([at for at, _ in batch.dead], minlength=len(batch.ranges)).tolist()
    newest = np.full(len(batch.ranges), _NEVER)
    np.maximum.at(newest, batch.range_index[entry.counted], entry.event_times[entry.counted])
    return [
        Advance(
            start=portion.start,
            end=portion.end,
            scored=scored[at],
            dead=dead[at],
            holes=portion.holes,
            log_end=max(log_ends.get(portion.partition, portion.end), portion.end),
            newest_event_time=None if newest[at] == _NEVER else int(newest[at]),
            record_time=_time_of_last(portion),
        )
        for at, portion in enumerate(batch.ranges)
    ]


def _time_of_last(portion: Range) -> int | None:
    at = portion.records[-1].timestamp if portion.records else None
    return None if at is None else to_microseconds(at)


def score_rows(
    entry: Entry, *, stream_ids: Mapping[Partition, int], segments: Mapping[str, int], reference_id: int
) -> list[NewScore]:
    """One row per scored image."""
    batch, scores = entry.batch, entry.batch.scores
    streams = [stream_ids[portion.partition] for portion in batch.ranges]
    columns = zip(
        batch.images,
        batch.range_index.tolist(),
        entry.event_times.tolist(),
        scores.class_index.tolist(),
        scores.energy.tolist(),
        scores.score.tolist(),
        scores.msp.tolist(),
        entry.flags.tolist(),
        entry.repeats.tolist(),
        [None] * len(batch.images) if batch.support is None else batch.support.tolist(),
        strict=True,
    )
    return [
        NewScore(
            streams[at],
            image.record.offset,
            event_time,
            _CLOCK_CODES[image.message.clock],
            segments[image.message.segment],
            reference_id,
            image.message.id,
            image.record.key,
            image.message.label,
            image.value_sha256,
            class_index,
            energy,
            score,
            msp,
            int(flag),
            int(repeat),
            int(image.message.drill),
            support,
        )
        for image, at, event_time, class_index, energy, score, msp, flag, repeat, support in columns
    ]


def dead_letter_rows(entry: Entry, *, stream_ids: Mapping[Partition, int]) -> list[NewDeadLetter]:
    """One row per record that could not be scored."""
    ranges = entry.batch.ranges
    return [_dead_letter_row(letter, stream_ids[ranges[at].partition]) for at, letter in entry.batch.dead]


def part_rows(entry: Entry, *, segments: Mapping[str, int], deployment_id: int, reference: Reference) -> list[NewPart]:
    """Roll-up parts: one per (segment, tick), and a pooled one per tick that alone sums the features."""
    rows = np.flatnonzero(entry.counted)
    if not len(rows):
        return []
    images = [entry.batch.images[row] for row in rows.tolist()]
    ticks = entry.ticks[rows]
    keys = np.column_stack((ticks, [segments[image.message.segment] for image in images]))
    assert reference.id is not None
    parts: list[NewPart] = []
    for labels, projected in ((keys, None), (keys[:, :1], entry.batch.projected[rows])):
        groups, members = np.unique(labels, axis=0, return_inverse=True)
        sums = _summarise(entry, rows, images, members, len(groups), projected, reference)
        parts += [
            NewPart(deployment_id, reference.id, segment[0] if segment else None, tick, encode(total))
            for (tick, *segment), total in zip(groups.tolist(), sums, strict=True)
        ]
    return parts


def _summarise(
    entry: Entry,
    rows: NDArray[np.intp],
    images: list[PreparedImage],
    groups: NDArray[np.int64],
    n_groups: int,
    projected: Float64s | None,
    reference: Reference,
) -> list[RollUp]:
    scores = entry.batch.scores
    properties = np.array([image.properties for image in images], dtype=np.float64)
    late_clocks = np.array([image.message.clock is ClockSource.ARRIVAL for image in images])
    return summarise_groups(
        groups,
        n_groups,
        scores=scores.score[rows],
        energies=scores.energy[rows],
        flags=entry.flags[rows],
        class_index=scores.class_index[rows],
        properties=properties,
        repeats=entry.repeats[rows],
        late_clocks=late_clocks,
        projected=projected,
        support=None if entry.batch.support is None else entry.batch.support[rows],
        edges=reference.edges,
        fine_edges=reference.fine_edges,
        n_classes=len(reference.classes),
    )


def _dead_letter_row(letter: DeadLetter, stream_id: int) -> NewDeadLetter:
    record, message = letter.record, letter.message
    name, segment = _claimed(record) if message is None else (message.id, message.segment)
    return NewDeadLetter(
        stream_id,
        record.offset,
        letter.stage,
        letter.reason.value,
        _storable(letter.error[:1000]),
        to_microseconds(letter.at),
        None if record.timestamp is None else to_microseconds(record.timestamp),
        name,
        record.key,
        segment,
        None if record.value is None else len(record.value),
        letter.value_sha256,
    )


def _claimed(record: Record) -> tuple[str | None, str]:
    """(id, segment) as a record's headers have them that were not accepted: a hint for whoever looks for it."""
    name, segment = identity(record)
    return None if name is None else _storable(name[:_MAX_CLAIM]), _storable(segment[:_MAX_CLAIM])


def _storable(text: str) -> str:
    """What a decoder said of a broken record, as far as databases take it: no NUL, no half of a character."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
