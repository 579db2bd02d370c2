"""One transaction: cursor + rows + roll-up parts + samples + dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from pipeline.records import Partition
from pipeline.stages.rows import Entry, advances, dead_letter_rows, part_rows, score_rows, without_ranges
from pipeline.stages.sampling import SampleDraft, sample_rows
from pipeline.storage.deployments import ensure_segments
from pipeline.storage.rollup_parts import insert_parts
from pipeline.storage.samples import insert_samples
from pipeline.storage.scores import insert_dead_letters, insert_scores
from pipeline.storage.streams import advance


@dataclass(frozen=True, slots=True)
class Sink:
    """Writes entries of one deployment."""

    deployment_id: int
    owner: str
    max_segments: int
    sample_places: int

    def write(
        self,
        conn: Connection,
        entry: Entry,
        drafts: tuple[SampleDraft, ...],
        *,
        stream_ids: Mapping[Partition, int],
        log_ends: Mapping[Partition, int],
        now: datetime,
    ) -> frozenset[int]:
        """Store an entry in the caller's transaction; return the indices of its fenced ranges.

        A range is fenced when its compare-and-set meets no row: somebody else has moved the cursor.
        Nothing of it is written, and the other ranges of the batch are unaffected.
        """
        batch, reference = entry.batch, entry.batch.reference
        if reference.id is None:
            raise ValueError(f"reference {reference.name} is not stored")
        steps = advances(entry, log_ends)
        streams = [stream_ids[portion.partition] for portion in batch.ranges]
        fenced = frozenset(
            at
            for at in sorted(range(len(steps)), key=streams.__getitem__)  # stable: a stream's ranges keep their order
            if not advance(conn, streams[at], steps[at], owner=self.owner, now=now)
        )
        if fenced:
            live = [image.record for i, image in enumerate(batch.images) if batch.range_index[i] not in fenced]
            kept = {(record.partition, record.offset) for record in live}
            drafts = tuple(draft for draft in drafts if draft.coordinates in kept)
            entry = without_ranges(entry, fenced)
        names = {image.message.segment for image in entry.batch.images}
        segments = ensure_segments(conn, self.deployment_id, sorted(names), limit=self.max_segments)
        insert_scores(
            conn,
            score_rows(entry, stream_ids=stream_ids, segments=segments, reference_id=reference.id),
        )
        insert_dead_letters(conn, dead_letter_rows(entry, stream_ids=stream_ids))
        insert_parts(
            conn,
            part_rows(entry, segments=segments, deployment_id=self.deployment_id, reference=reference),
        )
        rows = sample_rows(
            drafts,
            segments=segments,
            stream_ids=stream_ids,
            deployment_id=self.deployment_id,
            reference_id=reference.id,
        )
        insert_samples(conn, rows, self.sample_places)
        return fenced
