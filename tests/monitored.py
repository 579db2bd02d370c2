"""What a monitor watches, in little: parts written as a worker writes them, and a detector that only adds up."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Engine, event, select, update

from pipeline.alerts.lifecycle import Rules
from pipeline.errors import RefusedError
from pipeline.monitor import Limits, Monitor
from pipeline.records import Bounds, Partition
from pipeline.shift.folding import POOLED, TickKey
from pipeline.shift.rollup import RollUp, encode, merge, summarise_groups
from pipeline.shift.silence import Silence
from pipeline.shift.tick import Tick
from pipeline.shift.verdict import StreamVerdict, Transition
from pipeline.stages.alerting import Alerting
from pipeline.stages.judging import Judged, Patience
from pipeline.storage.deployments import ensure_deployment, ensure_segments
from pipeline.storage.monitoring import Watched
from pipeline.storage.references import save_reference
from pipeline.storage.rollup_parts import NewPart, insert_parts
from pipeline.storage.schema import (
    DetectorCheckpointRow,
    DetectorStateRow,
    MonitorRow,
    RollUpPartRow,
    StreamRow,
    TickRow,
    TransitionRow,
    VerdictRow,
    to_microseconds,
)
from pipeline.storage.streams import begin_stream
from pipeline.storage.ticks import TickRetention, read_ticks
from tests.faults.scored import reference

T0 = datetime(2026, 11, 24, 0, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LIMITS = Limits(Patience(lateness=timedelta(0), idle=timedelta(hours=12)), TickRetention())
ALERTING = Alerting(Rules())
EDGES, FINE_EDGES = np.linspace(0.05, 0.95, 17), np.linspace(-1, 2, 255)


def sums(seed: int, n: int = 20, *, flagged: float = 0.05, pooled: bool = True) -> RollUp:
    """The roll-up of n random images. Scores are multiples of 2^-10, so that their sums are exact in any order."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 1024, n) / 1024
    (rollup,) = summarise_groups(
        np.zeros(n, np.int64),
        1,
        scores=scores,
        energies=scores,
        flags=rng.random(n) < flagged,
        class_index=rng.integers(0, 2, n),
        properties=np.column_stack([rng.integers(0, 64, (n, 4)) / 64, np.full(n, 1000.0)]),
        repeats=rng.random(n) < 0.1,
        late_clocks=np.zeros(n, np.bool_),
        projected=rng.integers(-64, 64, (n, 2)) / 8 if pooled else None,
        edges=EDGES,
        fine_edges=FINE_EDGES,
        n_classes=2,
    )
    return rollup


class Traffic:
    """A deployment `d` with one reference, some segments and partitions, written to as workers do."""

    def __init__(self, engine: Engine, *, segments: int = 2, partitions: int = 1) -> None:
        self.engine = engine
        with engine.begin() as conn:
            self.reference_id = save_reference(conn, reference())
            self.deployment_id = ensure_deployment(conn, "d", model_id="m@0", reference_id=self.reference_id, now=T0)
            names = [f"cam-{i}" for i in range(segments)]
            self.segments = list(ensure_segments(conn, self.deployment_id, names, limit=10_000).values())
            self.streams = [
                begin_stream(
                    conn, self.deployment_id, Bounds(Partition("t", "id", i), 0, 0), first=0, owner="w", now=T0
                ).stream_id
                for i in range(partitions)
            ]
        self.watched = Watched(self.deployment_id, "d", self.reference_id)
        self.written: dict[TickKey, RollUp] = {}

    def part(self, tick: datetime, seed: int, *, segment: int = 0, n: int = 20, flagged: float = 0.05) -> list[NewPart]:
        """A segment's part and the pooled one, which hold the same images."""
        whole = sums(seed, n, flagged=flagged)
        alone = sums(seed, n, flagged=flagged, pooled=False)
        for key, rollup in ((POOLED, whole), (self.segments[segment], alone)):
            at = TickKey(tick, 1, self.reference_id, key)
            self.written[at] = rollup if at not in self.written else merge(self.written[at], rollup)
        start = to_microseconds(tick)
        return [
            NewPart(self.deployment_id, self.reference_id, self.segments[segment], start, encode(alone)),
            NewPart(self.deployment_id, self.reference_id, None, start, encode(whole)),
        ]

    def write(self, parts: Iterable[NewPart]) -> None:
        with self.engine.begin() as conn:
            insert_parts(conn, list(parts))

    def move(self, newest: datetime, *, at: datetime | None = None, partition: int = 0) -> None:
        """A worker has stored an image of that event time, at that moment."""
        with self.engine.begin() as conn:
            conn.execute(
                update(StreamRow)
                .where(StreamRow.id == self.streams[partition])
                .values(newest_event_time=newest, updated_at=newest if at is None else at)
            )

    def minutes(self, count: int, *, first: int = 0, flagged: float = 0.05) -> None:
        """So many minutes of every segment, and the cursor behind them."""
        self.write(
            part
            for minute in range(first, first + count)
            for segment in range(len(self.segments))
            for part in self.part(T0 + minute * MINUTE, minute * 100 + segment, segment=segment, flagged=flagged)
        )
        self.move(T0 + (first + count) * MINUTE)

    def stored(self, minutes: int = 1) -> dict[TickKey, RollUp]:
        """All ticks of a level."""
        with self.engine.connect() as conn:
            rows = conn.execute(
                select(TickRow.start, TickRow.minutes, TickRow.reference_id, TickRow.segment_id).where(
                    TickRow.minutes == minutes
                )
            ).all()
            found = read_ticks(conn, self.deployment_id, [TickKey(*row) for row in rows])
        return {key: tick.sums for key, tick in found.items()}

    def parts_left(self) -> int:
        with self.engine.connect() as conn:
            return len(conn.execute(select(RollUpPartRow.id)).all())

    def column(self, name: str) -> Any:
        """Of the monitor's row."""
        with self.engine.connect() as conn:
            return conn.scalar(select(getattr(MonitorRow, name)))

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        return everything(self.engine)


def everything(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """All that a monitor writes and that must not depend on how often it was interrupted."""
    left_out = {"revision", "id", "updated_at", "decided_at", "fed_at"}
    found = {}
    with engine.connect() as conn:
        for table in (TickRow, MonitorRow, DetectorStateRow, DetectorCheckpointRow, VerdictRow, TransitionRow):
            columns = [
                column
                for column in table.__table__.columns
                if column.name not in left_out or (table is TickRow and column.name == "revision")
            ]
            rows = conn.execute(select(*columns)).all()
            found[table.__tablename__] = sorted((tuple(row) for row in rows), key=repr)
    return found


class Adder:
    """A detector that adds up flags and turns over at every `limit`; its digest holds all that it was fed, in order."""

    def __init__(self, limit: float = 1e9, *, silent_after: timedelta = timedelta(days=10_000)) -> None:
        self._limit = limit
        self._silent_after = silent_after
        self.known: dict[str, Any] = {"limit": limit, "n": 0, "flags": 0, "state": "ok", "digest": ""}

    @property
    def provisional(self) -> bool:
        return True

    def step(self, tick: Tick) -> list[StreamVerdict]:
        self.advance(tick)
        return self.decide()

    def advance(self, tick: Tick) -> None:
        n, flags = (0, 0) if tick.pooled is None else (tick.pooled.n, tick.pooled.flags)
        fed: list[Any] = [tick.start.isoformat(), n, flags]
        for name, counts in sorted(tick.segments.items()):
            assert counts.histogram is not None
            fed.append((name, counts.n, counts.flags, counts.histogram.tolist()))
        self.known["digest"] = hashlib.sha256(json.dumps([self.known["digest"], fed]).encode()).hexdigest()
        self.known["n"] += n
        self.known["flags"] += flags

    def decide(self) -> list[StreamVerdict]:
        flags, before, change = self.known["flags"], self.known["state"], None
        if flags >= self._limit:
            after = "ok" if before == "shift" else "shift"
            change = Transition(before, after, flags, self.known["n"], "all")
            self.known |= {"state": after, "flags": 0}
        return [StreamVerdict("pooled", self.known["state"], float(flags), None, None, None, None, change)]

    def silence(self, *, last_image: datetime, now: datetime) -> Silence:
        return Silence(now - last_image > self._silent_after, expected=7.0, limit=7.0)

    def snapshot(self) -> bytes:
        return json.dumps(self.known).encode()

    def restore(self, content: bytes) -> None:
        known = json.loads(content)
        if known["limit"] != self._limit:
            raise RefusedError(f"state of limit {known['limit']}, this one is {self._limit}")
        self.known = known


class Alone:
    """Always leads."""

    def leads(self, deployment_id: int) -> bool:
        return True

    def resign(self) -> None:
        return None


def monitor(
    engine: Engine,
    now: datetime | Callable[[], datetime],
    *,
    limits: Limits = LIMITS,
    limit: float = 1e9,
    silent_after: timedelta = timedelta(days=10_000),
    alerting: Alerting = ALERTING,
    report: Callable[[Judged], None] = lambda judged: None,
) -> Monitor:
    """A monitor with the adder, alone."""

    def new(_deployment: Watched, _reference_id: int, content: bytes | None) -> Adder:
        adder = Adder(limit, silent_after=silent_after)
        if content is not None:
            adder.restore(content)
        return adder

    clock = now if callable(now) else lambda: now
    return Monitor(engine, Alone(), new, limits, alerting, clock=clock, report=report)


@contextmanager
def counting(engine: Engine) -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    seen: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)
