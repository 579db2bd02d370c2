"""Which images are kept as samples: of each segment and tick the strangest few and a random few.

Both are "the highest ranks win": strange ranks by score, random by a hash of the coordinates. That
needs no memory between batches, gives the same answer for any number of workers and restarts, and
the random ones are a uniform sample.
"""

import hashlib
import heapq
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.records import Float32s, Partition, PreparedImage, Record
from pipeline.stages.rows import Entry, tick_of
from pipeline.storage.samples import NewSample
from pipeline.storage.schema import to_microseconds

STRANGE = "strange"
RANDOM = "random"

Picture = Callable[[PreparedImage], bytes | None]


@dataclass(frozen=True, slots=True)
class SamplingLimits:
    """How much is kept. `pictures` off keeps no image at all: no thumbnail, no features, no logits."""

    places: int = 4  # of each kind, per segment and tick
    pictures: bool = True


@dataclass(frozen=True, slots=True)
class SampleDraft:
    """A sample before its segment and stream have keys."""

    image: PreparedImage
    kind: str
    rank: float
    tick: int
    thumbnail: bytes | None
    features: bytes | None
    logits: bytes | None

    @property
    def coordinates(self) -> tuple[Partition, int]:
        """Where the image lies in the log."""
        return self.image.record.partition, self.image.record.offset


class Sampler:
    """Chooses candidates; remembers, for the newest ticks, what a candidate has to beat."""

    def __init__(self, limits: SamplingLimits, picture: Picture, *, remembered_slots: int = 4096) -> None:
        self._limits = limits
        self._picture = picture
        self._remembered = remembered_slots
        self._best: dict[tuple[str, int, str], list[float]] = {}  # slot: its highest ranks, a heap

    def draft(self, entry: Entry) -> tuple[SampleDraft, ...]:
        """The images of a batch that win a place; storing them drops what they displace."""
        winners: dict[tuple[str, int, str], list[tuple[float, int]]] = {}
        scores = entry.batch.scores.score.tolist()
        for i in np.flatnonzero(entry.counted).tolist():
            image = entry.batch.images[i]
            tick = tick_of(image)
            for kind, rank in ((STRANGE, scores[i]), (RANDOM, random_rank(image.record))):
                slot = (image.message.segment, tick, kind)
                if self._wins(slot, rank):
                    places = winners.setdefault(slot, [])
                    heapq.heappush(places, (rank, i))
                    if len(places) > self._limits.places:
                        heapq.heappop(places)
        return tuple(
            self._sample(entry, i, slot, rank) for slot, places in winners.items() for rank, i in sorted(places)
        )

    def _wins(self, slot: tuple[str, int, str], rank: float) -> bool:
        best = self._best.get(slot)
        if best is None:
            if len(self._best) >= self._remembered:
                del self._best[next(iter(self._best))]
            best = self._best[slot] = []
        if len(best) < self._limits.places:
            heapq.heappush(best, rank)
            return True
        return heapq.heappushpop(best, rank) < rank

    def _sample(self, entry: Entry, i: int, slot: tuple[str, int, str], rank: float) -> SampleDraft:
        image = entry.batch.images[i]
        outputs = entry.batch.outputs
        keep = self._limits.pictures
        return SampleDraft(
            image=image,
            kind=slot[2],
            rank=rank,
            tick=slot[1],
            thumbnail=self._picture(image) if keep else None,
            features=_half(outputs.features[i]) if keep else None,
            logits=_half(outputs.logits[i]) if keep else None,
        )


def _half(values: Float32s) -> bytes:
    """Float16 is enough for a picture's neighbours; what exceeds its range is clipped to it."""
    return np.clip(values, -65504, 65504).astype("<f2").tobytes()


def random_rank(record: Record) -> float:
    """A number in [0, 1) that depends on the coordinates alone."""
    partition = record.partition
    name = f"{partition.topic}/{partition.topic_id}/{partition.number}/{record.offset}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest()) / 2**48


def sample_rows(
    drafts: tuple[SampleDraft, ...],
    *,
    segments: Mapping[str, int],
    stream_ids: Mapping[Partition, int],
    deployment_id: int,
    reference_id: int,
) -> list[NewSample]:
    """Drafts with the keys that the transaction knows."""
    return [
        NewSample(
            deployment_id,
            reference_id,
            segments[draft.image.message.segment],
            draft.tick,
            draft.kind,
            draft.rank,
            stream_ids[draft.image.record.partition],
            draft.image.record.offset,
            to_microseconds(draft.image.message.event_time),
            draft.thumbnail,
            draft.features,
            draft.logits,
            json.dumps(dict(draft.image.message.other_headers), ensure_ascii=False),
        )
        for draft in drafts
    ]
