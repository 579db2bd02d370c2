"""Days of traffic whose flag rate is known by the minute, stored as ticks or written as parts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import Engine, select, update

from pipeline.records import Bounds, Float64s, Partition, Reference
from pipeline.shift.folding import POOLED, TickKey
from pipeline.shift.histogram import fine_edges, rank_edges
from pipeline.shift.rollup import RollUp, encode, summarise_groups
from pipeline.shift.threshold import conformal_threshold, flag_rate_bounds
from pipeline.storage.deployments import ensure_deployment, ensure_segments
from pipeline.storage.monitoring import Watched, begin_monitoring, one_deployment
from pipeline.storage.references import reference_by_key, save_reference
from pipeline.storage.rollup_parts import NewPart, insert_parts
from pipeline.storage.schema import MonitorRow, StreamRow, TransitionRow, to_microseconds
from pipeline.storage.streams import begin_stream
from pipeline.storage.ticks import StoredTick, put_ticks, segment_names
from tests.faults.scored import reference

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = 1440


def calibrated(version: int = 1, shift: float = 0.0, n: int = 2000) -> Reference:
    """A reference of n scores that are the quantiles of one distribution, moved by `shift`."""
    scores = np.sort(np.random.default_rng(5).normal(size=n)) + shift
    threshold, rank = conformal_threshold(scores, 0.05)
    low, high = flag_rate_bounds(n, rank)
    return replace(
        reference(),
        name=f"m-r{version}",
        version=version,
        n=n,
        rank=rank,
        threshold=threshold,
        p0_low=low,
        p0_high=high,
        scores=scores,
        edges=rank_edges(scores),
        fine_edges=fine_edges(scores),
    )


def night_and_day(days: int) -> Float64s:
    """5.5 % flagged on average, 8 % at six in the morning, 3 % at six in the evening; by the minute."""
    return 0.055 + 0.025 * np.sin(2 * np.pi * np.arange(days * DAY) / DAY)


def rolled_up(of: Reference, rate: Float64s, *, images: int = 60, seed: int = 0) -> list[RollUp]:
    """One roll-up a minute: `images` scores like the reference's, of which `rate` are above its threshold."""
    rng = np.random.default_rng(seed)
    found: list[RollUp] = []
    for first in range(0, len(rate), DAY):
        of_day = rate[first : first + DAY]
        minutes = np.repeat(np.arange(len(of_day)), images)
        flagged = rng.random(len(minutes)) < of_day[minutes]
        at = np.where(flagged, rng.integers(of.rank, of.n, len(minutes)), rng.integers(0, of.rank, len(minutes)))
        scores = of.scores[at]
        found += summarise_groups(
            minutes,
            len(of_day),
            scores=scores,
            energies=scores,
            flags=scores > of.threshold,
            class_index=(rng.random(len(minutes)) < 0.3).astype(np.int64),
            properties=np.full((len(minutes), 5), 0.5),
            repeats=np.zeros(len(minutes), np.bool_),
            late_clocks=np.zeros(len(minutes), np.bool_),
            projected=rng.normal(size=(len(minutes), 1)),
            edges=of.edges,
            fine_edges=of.fine_edges,
            n_classes=2,
        )
    return found


def of_segment(sums: RollUp) -> RollUp:
    """As a segment's roll-up: without features."""
    return replace(sums, z_n=0, z_sum=None, z_outer=None)


class Days:
    """A deployment `d` with one segment and one partition."""

    def __init__(self, engine: Engine, reference: Reference, watched: Watched, segment: int) -> None:
        self.engine = engine
        self.reference = reference
        self.watched = watched
        self.deployment_id = watched.id
        self.segment = segment

    @classmethod
    def begin(cls, engine: Engine) -> "Days":
        """In an empty database."""
        with engine.begin() as conn:
            key = save_reference(conn, calibrated())
            deployment = ensure_deployment(conn, "d", model_id="m@0", reference_id=key, now=MONDAY)
            ensure_segments(conn, deployment, ["cam"], limit=10)
            begin_stream(conn, deployment, Bounds(Partition("t", "id", 0), 0, 0), first=0, owner="w", now=MONDAY)
            begin_monitoring(conn, deployment, now=MONDAY)
        return cls.of(engine)

    @classmethod
    def of(cls, engine: Engine) -> "Days":
        """In a database that `begin` has made."""
        with engine.connect() as conn:
            watched = one_deployment(conn, None)
            (segment,) = segment_names(conn, watched.id)
            return cls(engine, reference_by_key(conn, watched.reference_id), watched, segment)

    def store(self, start: datetime, minutes: Sequence[RollUp]) -> None:
        """As ticks that were evaluated."""
        assert self.reference.id is not None
        ticks = {}
        for i, sums in enumerate(minutes):
            for segment, stored in ((POOLED, sums), (self.segment, of_segment(sums))):
                ticks[TickKey(start + i * MINUTE, 1, self.reference.id, segment)] = StoredTick(stored, 0)
        with self.engine.begin() as conn:
            put_ticks(conn, self.deployment_id, ticks)
            conn.execute(update(MonitorRow).values(evaluated_until=start + len(minutes) * MINUTE))

    def write(self, start: datetime, minutes: Sequence[RollUp]) -> None:
        """As a worker does."""
        assert self.reference.id is not None
        parts = []
        for i, sums in enumerate(minutes):
            at = to_microseconds(start + i * MINUTE)
            parts.append(NewPart(self.deployment_id, self.reference.id, self.segment, at, encode(of_segment(sums))))
            parts.append(NewPart(self.deployment_id, self.reference.id, None, at, encode(sums)))
        with self.engine.begin() as conn:
            insert_parts(conn, parts)
            newest = start + len(minutes) * MINUTE
            conn.execute(update(StreamRow).values(newest_event_time=newest, updated_at=newest))

    def transitions(self) -> list[tuple[str, str, bool]]:
        """Stream, state and whether it is provisional, in order, of all that left ok or came back to it."""
        with self.engine.connect() as conn:
            rows = conn.execute(
                select(TransitionRow.stream, TransitionRow.state, TransitionRow.provisional)
                .where(TransitionRow.from_state != "no_data")
                .order_by(TransitionRow.id)
            )
            return [(row.stream, row.state, row.provisional) for row in rows]
