"""Two weeks of normal traffic in seconds: what a worker and a monitor would have stored of them, and a baseline.

A pool of images is scored once, through the worker's own preparation and model. Traffic is drawn from it, as the
demo's cameras draw from it: minutes of the last hours, five minutes of the last days, hours before. The last
days are accepted: of hours there would be too few to know from them that neighbouring images are independent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from pipeline.assembly.accepting import made_from
from pipeline.assembly.detecting import thresholds_of
from pipeline.assembly.parts import ModelParts, decode_threads, energy_score
from pipeline.records import Float64s, Ints, Reference
from pipeline.settings import Settings
from pipeline.shift.folding import LEVELS, POOLED, TickKey, floor, fold
from pipeline.shift.rollup import RollUp, summarise_groups
from pipeline.stages.accepting import Source
from pipeline.stages.files import score_files
from pipeline.storage.baselines import save_baseline
from pipeline.storage.deployments import ensure_deployment, ensure_segments
from pipeline.storage.incidents import begin_alerting
from pipeline.storage.monitoring import begin_monitoring, claim, note_made, read_position
from pipeline.storage.ticks import StoredTick, put_ticks

DAYS = 14
_ACCEPTED_DAYS = 4
_HOURS_OF_MINUTES = 3
_DRAWN = 100_000  # images at once

Ticks = dict[TickKey, RollUp]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Scored images that stand for normal traffic; row i of all arrays is one image."""

    reference: Reference
    scores: Float64s
    class_index: Ints
    properties: Float64s  # (P, 5)
    projected: Float64s  # (P, d)

    def sums(self, rows: NDArray[np.int64], groups: NDArray[np.int64], count: int, *, features: bool) -> list[RollUp]:
        """The roll-ups of groups of images."""
        scores = self.scores[rows]
        nothing = np.zeros(len(rows), np.bool_)
        return summarise_groups(
            groups,
            count,
            scores=scores,
            energies=scores,
            flags=scores > self.reference.threshold,
            class_index=self.class_index[rows],
            properties=self.properties[rows],
            repeats=nothing,
            late_clocks=nothing,
            projected=self.projected[rows] if features else None,
            edges=self.reference.edges,
            fine_edges=self.reference.fine_edges,
            n_classes=len(self.reference.classes),
        )


def score_pool(settings: Settings, parts: ModelParts, reference: Reference, files: Sequence[Path]) -> Pool:
    """Score the images of these files, as a worker would."""
    score = energy_score(reference.temperature)
    batches = list(score_files(files, parts.preparation, parts.classifier, score, threads=decode_threads(settings)))
    features = np.concatenate([batch.outputs.features for batch in batches]).astype(np.float64)
    return Pool(
        reference,
        np.concatenate([batch.scores.score for batch in batches]),
        np.concatenate([batch.scores.class_index for batch in batches]),
        np.array([image.properties for batch in batches for image in batch.images], np.float64),
        (features - reference.feature_mean) @ reference.projection,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """Normal traffic of some segments up to a time; segments by key."""

    pool: Pool
    segments: Sequence[int]
    per_minute: float  # images of each segment
    end: datetime  # a whole minute

    @property
    def start(self) -> datetime:
        """A whole day."""
        return floor(self.end, LEVELS[-1]) - timedelta(days=DAYS)

    @property
    def accepted_from(self) -> datetime:
        """A whole day."""
        return self.start + timedelta(days=DAYS - _ACCEPTED_DAYS)

    def ticks(self, rng: np.random.Generator) -> dict[int, Ticks]:
        """By level: what is complete at the end."""
        days = self.accepted_from
        late = floor(self.end, 60) - timedelta(hours=_HOURS_OF_MINUTES)
        minutes = self.drawn(late, self.end, 1, rng)
        fives = self.drawn(days, late, 5, rng) | self._coarser(minutes, 5)
        hours = self.drawn(self.start, days, 60, rng) | self._coarser(fives, 60)
        return {1: minutes, 5: fives, 60: hours, 1440: self._coarser(hours, 1440)}

    def drawn(self, start: datetime, end: datetime, minutes: int, rng: np.random.Generator) -> Ticks:
        """Ticks of one length, each with as many images of each segment."""
        length, images = timedelta(minutes=minutes), round(self.per_minute * minutes)
        total, per_tick = (end - start) // length, images * len(self.segments)
        step = max(1, _DRAWN // per_tick)
        made: Ticks = {}
        for first in range(0, total, step):
            count = min(step, total - first)
            rows = rng.integers(0, len(self.pool.scores), count * per_tick)
            each = np.repeat(np.arange(count * len(self.segments)), images)
            pooled = self.pool.sums(rows, each // len(self.segments), count, features=True)
            split = self.pool.sums(rows, each, count * len(self.segments), features=False)
            for i in range(count):
                key = TickKey(start + (first + i) * length, minutes, self._reference_id, POOLED)
                made[key] = pooled[i]
                for at, segment in enumerate(self.segments):
                    made[key._replace(segment_id=segment)] = split[i * len(self.segments) + at]
        return made

    def _coarser(self, finer: Mapping[TickKey, RollUp], minutes: int) -> Ticks:
        until = floor(self.end, minutes)

        def addends() -> Iterator[tuple[TickKey, RollUp]]:
            for key, sums in finer.items():
                if (start := floor(key.start, minutes)) < until:
                    yield key._replace(start=start, minutes=minutes), sums

        return fold(addends(), {})

    @property
    def _reference_id(self) -> int:
        assert self.pool.reference.id is not None
        return self.pool.reference.id


def write_past(
    conn: Connection, settings: Settings, pool: Pool, *, cameras: Sequence[str], per_minute: float, end: datetime
) -> int:
    """Store the past of a deployment and accept it as normal; the deployment's key."""
    reference, now = pool.reference, settings.clock.now()
    assert reference.id is not None
    assert settings.deployment is not None
    deployment = ensure_deployment(
        conn, settings.deployment, model_id=reference.model_id, reference_id=reference.id, now=now
    )
    segments = ensure_segments(conn, deployment, cameras, limit=settings.worker.max_segments)
    begin_monitoring(conn, deployment, now=now)
    begin_alerting(conn, deployment, now=now)
    past = Past(pool, list(segments.values()), per_minute, end)
    for minutes, ticks in past.ticks(np.random.default_rng(7)).items():
        put_ticks(conn, deployment, {key: StoredTick(sums, 0) for key, sums in ticks.items()})
        if minutes > 1:
            note_made(conn, deployment, minutes, floor(end, minutes))
    source = Source(deployment, reference, past.accepted_from, floor(end, 5), minutes=5)
    line, made, _ = made_from(
        conn, source, thresholds_of(settings), name="demo", reason="days of clean traffic", now=now
    )
    save_baseline(conn, deployment, reference.id, line, made)
    return deployment


def begin_watching(conn: Connection, deployment: int, *, at: datetime) -> None:
    """Let the monitor judge what comes from this minute on."""
    position = read_position(conn, deployment)
    assert position is not None
    claim(conn, position, now=at, evaluated_until=at, watermark=at)
