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
from functools import lru_cache

import numpy as np

from pipeline.records import Float32s, Float64s, Partition, PreparedImage, ScoredBatch
from pipeline.stages.rows import Entry
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
        batch = entry.batch
        groups: dict[tuple[str, int], list[int]] = {}
        for i, (tick, counted) in enumerate(zip(entry.ticks.tolist(), entry.counted.tolist(), strict=True)):
            if counted:
                groups.setdefault((batch.images[i].message.segment, tick), []).append(i)
        drafts: list[SampleDraft] = []
        for kind, ranks in ((STRANGE, batch.scores.score), (RANDOM, random_ranks(batch))):
            for (segment, tick), members in groups.items():
                slot = (segment, tick, kind)
                best = sorted(zip(ranks[members].tolist(), members, strict=True))[-self._limits.places :]
                drafts += [self._sample(entry, i, slot, rank) for rank, i in reversed(best) if self._wins(slot, rank)]
        return tuple(drafts)

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


def random_ranks(batch: ScoredBatch) -> Float64s:
    """(n,) numbers in [0, 1) that depend on each image's coordinates alone.

    SplitMix64 (Steele, Lea and Flood 2014) of the offset, begun at a hash of the partition.
    """
    seeds = np.array([_seed(portion.partition) for portion in batch.ranges], dtype=np.uint64)
    offsets = np.array([image.record.offset for image in batch.images], dtype=np.uint64)
    z = seeds[batch.range_index] + offsets * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    ranks: Float64s = (z >> np.uint64(11)).astype(np.float64) / 2**53
    return ranks


@lru_cache(maxsize=1024)
def _seed(partition: Partition) -> int:
    name = f"{partition.topic}/{partition.topic_id}/{partition.number}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


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
