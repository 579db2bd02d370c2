"""Model-based test of intake and sink: whatever happens, every record is stored exactly once.

Hypothesis drives several workers over one log and one database: rebalances, zombies that go on with
what they had, crashes, failed and ambiguous commits, holes, retention, topics made anew. The unique key
is dropped on purpose: correctness must come from the compare-and-set alone. Five mutants of the design
show that the test can fail.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection, Engine, create_engine, event, insert, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from pipeline.ingest.source import Fetched
from pipeline.records import Range, ScoredBatch
from pipeline.stages import sink as sink_module
from pipeline.stages.cursors import Cursors
from pipeline.stages.flow import Flow, InFlight, Positioned
from pipeline.stages.intake import Intake
from pipeline.stages.retry import Retry
from pipeline.stages.sampling import Sampler, SamplingLimits
from pipeline.stages.sink import Sink
from pipeline.stages.writer import Writer
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.migrations.run import upgrade
from pipeline.storage.schema import ReferenceRow, StreamRow
from pipeline.storage.streams import advance
from tests.faults.fake_log import FakeLog, FakeSubscription, FakeTopic
from tests.faults.scored import NOW, POISON, energy_of, reference, score_ranges

PARTITIONS = 2
WORKERS = 2
numbers = st.integers(0, PARTITIONS - 1)
workers = st.integers(0, WORKERS - 1)


def memory_database() -> Engine:
    """One connection, the real migrations, no unique key on rows."""
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def _manual(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN")

    upgrade(engine)
    with engine.begin() as conn:
        for table in ("score", "dead_letter"):
            conn.exec_driver_sql(f"CREATE TABLE keyless AS SELECT * FROM {table}")
            conn.exec_driver_sql(f"DROP TABLE {table}")
            conn.exec_driver_sql(f"ALTER TABLE keyless RENAME TO {table}")
        columns = [row[1] for row in conn.exec_driver_sql("PRAGMA table_info(sample)") if row[1] != "id"]
        quoted = ", ".join(f'"{column}"' for column in columns)
        conn.exec_driver_sql("DROP TABLE sample")
        conn.exec_driver_sql(f"CREATE TABLE sample (id INTEGER PRIMARY KEY, {quoted})")
        reference_ = reference()
        values = {c: getattr(reference_, c) for c in ("name", "version", "model_name", "model_id", "decoder", "dtype")}
        values |= {c: getattr(reference_, c) for c in ("score_name", "temperature", "target_fpr", "n", "rank")}
        values |= {c: getattr(reference_, c) for c in ("threshold", "p0_low", "p0_high", "representative")}
        conn.execute(insert(ReferenceRow).values(**values, created_at=NOW, classes=["a", "b"], arrays=b""))
        ensure_deployment(conn, "d", model_id="m@0", reference_id=1, now=NOW)
    return engine


class FlakyEngine:
    """The database on a bad day: the next commit fails, or succeeds and its answer is lost."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.dialect = engine.dialect
        self.url = engine.url
        self.fail_next = False
        self.lose_next_answer = False

    def fail(self) -> None:
        self.fail_next = True

    def lose_answer(self) -> None:
        self.lose_next_answer = True

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with self._engine.begin() as conn:
            yield conn
            if self.fail_next:
                self.fail_next = False
                raise OperationalError("COMMIT", {}, Exception("disk I/O error"))
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))


class FakeWorker:
    """The worker's threads, one step at a time."""

    def __init__(self, log: FakeLog, engine: FlakyEngine, name: str) -> None:
        self.subscription = FakeSubscription(log, max_records=3)
        self.pending: list[Range] = []
        self.scored: list[ScoredBatch] = []
        topic = FakeTopic(log)
        flow = Flow(InFlight(max_records=12, max_bytes=1 << 20, bytes_per_record=1))
        cursors = Cursors(
            engine,  # type: ignore[arg-type]
            topic,
            flow,
            deployment_id=1,
            owner=name,
            start_at=lambda topic, bounds: bounds.beginning,
            isolation_span=4,
            clock=lambda: NOW,
        )
        self.intake = Intake(
            self.subscription,
            flow=flow,
            forward=self.pending.append,
            max_range=2,
        )
        self.writer = Writer(
            engine,  # type: ignore[arg-type]
            topic,
            Sink(1, name, 10, 2),
            Sampler(SamplingLimits(2), lambda image: None),
            cursors,
            flow=flow,
            retry=Retry(engine.url, Event(), progress=flow.progress, jitter=lambda: 0.0),
            clock=lambda: NOW,
        )

    def infer(self) -> None:
        if self.pending:
            self.scored.append(score_ranges(self.pending[:3]))
            del self.pending[:3]

    def write(self, before: Callable[[], None] = lambda: None) -> None:
        self.writer.answer_requests()
        if self.scored:
            before()
            self.writer.store(self.scored.pop(0))


class ExactlyOnce(RuleBasedStateMachine):
    """Rules are what may happen; the invariant is what must hold after each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.log = FakeLog(PARTITIONS)
        self.database = memory_database()
        self.engine = FlakyEngine(self.database)
        self.made = 0
        self.workers = [self.new_worker() for _ in range(WORKERS)]
        self.rebalance(0)

    def new_worker(self) -> FakeWorker:
        self.made += 1
        return FakeWorker(self.log, self.engine, f"worker-{self.made}")

    @rule(number=numbers, count=st.integers(1, 5), poison=st.booleans())
    def produce(self, number: int, count: int, poison: bool) -> None:
        for i in range(count):
            bad = poison and i == count - 1
            self.log.produce(number, POISON if bad else f"{len(self.log.history)}".encode())

    @rule(number=numbers)
    def hole(self, number: int) -> None:
        self.log.make_hole(number)

    @rule(number=numbers, back=st.integers(0, 6))
    def damage(self, number: int, back: int) -> None:
        self.log.damage(number, max(0, self.log.end(number) - 1 - back))

    @rule(number=numbers, count=st.integers(1, 4))
    def retention(self, number: int, count: int) -> None:
        self.log.expire(number, count)

    @rule(refill=st.integers(0, 8))
    def recreate_topic(self, refill: int) -> None:
        self.log.recreate()
        for number in range(PARTITIONS):
            for i in range(refill):
                self.log.produce(number, f"anew {self.log.incarnation} {i}".encode())

    @rule(owner=workers)
    def rebalance(self, owner: int) -> None:
        for i, worker in enumerate(self.workers):
            worker.subscription.assign({n for n in range(PARTITIONS) if (n + owner) % WORKERS == i})

    @rule(owner=workers)
    def give_all_to(self, owner: int) -> None:
        for i, worker in enumerate(self.workers):
            worker.subscription.assign(range(PARTITIONS) if i == owner else ())

    @rule(at=workers, times=st.integers(1, 4))
    def fetch(self, at: int, times: int) -> None:
        """Poll and score, but store nothing: the work stays in the worker's hands."""
        worker = self.workers[at]
        for _ in range(times):
            worker.intake.step(0)
            worker.writer.answer_requests()
        worker.infer()

    @rule(at=workers, times=st.integers(1, 3))
    def write(self, at: int, times: int) -> None:
        for _ in range(times):
            self.workers[at].write()

    @rule(at=workers, number=numbers)
    def take_over_from_a_zombie(self, at: int, number: int) -> None:
        """One worker holds scored work while the other is given its partitions, and then writes it."""
        other = (at + 1) % WORKERS
        self.give_all_to(at)
        self.produce(number, 3, False)
        self.fetch(at, 3)
        self.give_all_to(other)
        self.fetch(other, 3)
        self.write(other, 2)
        self.write(at, 3)

    @rule(at=workers, number=numbers)
    def recreate_under_a_frozen_worker(self, at: int, number: int) -> None:
        """The member misses it and goes on at its old offset in the new topic."""
        self.give_all_to(at)
        self.produce(number, 2, False)
        self.fetch(at, 3)
        self.write(at, 2)
        self.recreate_topic(6)
        self.fetch(at, 3)
        self.write(at, 2)

    @rule(at=workers)
    def crash(self, at: int) -> None:
        assigned = self.workers[at].subscription._decided
        self.workers[at] = self.new_worker()
        self.workers[at].subscription.assign(assigned)

    @rule(at=workers)
    def refresh_metadata(self, at: int) -> None:
        self.workers[at].subscription.refresh_metadata()

    @rule(at=workers)
    def database_error(self, at: int) -> None:
        self.fetch(at, 3)
        self.workers[at].write(before=self.engine.fail)

    @rule(at=workers)
    def ambiguous_commit(self, at: int) -> None:
        self.fetch(at, 3)
        self.workers[at].write(before=self.engine.lose_answer)

    @invariant()
    def nothing_lost_doubled_or_alien(self) -> None:
        for topic_id, number, start, end in self.streams():
            due = {
                (topic_id, number, offset)
                for offset in range(start, end)
                if (topic_id, number, offset) in self.log.history
            } - self.gaps(topic_id, number)
            stored = self.stored(topic_id, number)
            places = [place for place, _ in stored]
            assert len(places) == len(set(places)), f"stored twice in {topic_id}/{number}"
            assert set(places) == due, f"below the cursor of {topic_id}/{number}, but not stored, or the reverse"
            for place, energy in stored:
                value = self.log.history[place]
                expected = None if value == POISON else energy_of(value)
                assert energy == expected, f"{place} holds another record's row"

    def teardown(self) -> None:
        self.engine.fail_next = self.engine.lose_next_answer = False
        for worker in self.workers:
            worker.subscription.refresh_metadata()
        self.give_all_to(0)
        for _ in range(200):
            for worker in self.workers:
                worker.intake.step(0)
                worker.infer()
                worker.write()
        self.nothing_lost_doubled_or_alien()
        ends = {(topic_id, number): end for topic_id, number, _, end in self.streams()}
        for number in range(PARTITIONS):
            end = self.log.end(number)
            assert ends[self.log.topic_id, number] == end, f"partition {number} was not read to its end"
        self.database.dispose()

    def streams(self) -> list[tuple[str, int, int, int]]:
        with self.database.connect() as conn:
            rows = conn.execute(text("SELECT topic_id, partition, start_offset, next_offset FROM stream"))
            return [(str(row[0]), int(row[1]), int(row[2]), int(row[3])) for row in rows]

    def stored(self, topic_id: str, number: int) -> list[tuple[tuple[str, int, int], float | None]]:
        query = text(
            "SELECT r.offset, r.energy FROM"
            " (SELECT stream_id, offset, energy FROM score"
            "  UNION ALL SELECT stream_id, offset, NULL FROM dead_letter) r"
            " JOIN stream s ON s.id = r.stream_id WHERE s.topic_id = :topic_id AND s.partition = :number"
        )
        with self.database.connect() as conn:
            rows = conn.execute(query, {"topic_id": topic_id, "number": number})
            return [((topic_id, number, row[0]), row[1]) for row in rows]

    def gaps(self, topic_id: str, number: int) -> set[tuple[str, int, int]]:
        query = text(
            "SELECT g.from_offset, g.to_offset FROM stream_gap g JOIN stream s ON s.id = g.stream_id"
            " WHERE s.topic_id = :topic_id AND s.partition = :number"
        )
        with self.database.connect() as conn:
            rows = conn.execute(query, {"topic_id": topic_id, "number": number})
            return {(topic_id, number, offset) for row in rows for offset in range(row[0], row[1])}


def run(examples: int, *, quick: bool = False) -> None:
    run_state_machine_as_test(
        ExactlyOnce,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if quick else list(Phase),
        ),
    )


def test_every_record_is_stored_exactly_once_whatever_happens() -> None:
    run(examples=150)


def test_rebalances_are_no_failed_attempts() -> None:
    log, database = FakeLog(PARTITIONS), memory_database()
    members = [FakeWorker(log, FlakyEngine(database), f"worker-{i}") for i in range(WORKERS)]
    log.produce(0, b"waiting")
    for turn in range(12):
        for i, member in enumerate(members):
            member.subscription.assign(range(PARTITIONS) if turn % WORKERS == i else ())
            member.intake.step(0)
        for member in members:
            member.writer.answer_requests()
    with database.connect() as conn:
        attempts = conn.execute(text("SELECT attempts FROM stream")).scalars().all()
    assert attempts == [1] * PARTITIONS
    for member in members:
        member.writer.end()
    with database.connect() as conn:
        assert conn.scalar(text("SELECT sum(attempts) FROM stream")) == 0
    database.dispose()


def _without_compare_and_set(conn: Connection, stream_id: int, step: Any, **who: Any) -> bool:
    conn.execute(update(StreamRow).where(StreamRow.id == stream_id).values(next_offset=step.end))
    return True


def _cursor_committed_before_the_rows(conn: Connection, stream_id: int, step: Any, **who: Any) -> bool:
    moved = advance(conn, stream_id, step, **who)
    conn.exec_driver_sql("COMMIT")
    conn.exec_driver_sql("BEGIN")
    return moved


def _without_seek(self: Any, answer: Positioned) -> bool:
    seek, self._subscription.seek = self._subscription.seek, lambda partition, offset: None
    try:
        return _go_on_from(self, answer)
    finally:
        self._subscription.seek = seek


def _starting_at_the_first_record(self: Any, number: int, fetched: Fetched) -> None:
    position = self._positions.get(number)
    if position is not None and fetched.records:
        position.start = fetched.records[0].offset
    _take(self, number, fetched)


class _EqualsAnything(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


_go_on_from = Intake._go_on_from
_take = Intake._take

MUTANTS: dict[str, tuple[object, str, object]] = {
    "no compare-and-set": (sink_module, "advance", _without_compare_and_set),
    "cursor committed before the rows": (sink_module, "advance", _cursor_committed_before_the_rows),
    "seek omitted after an assignment": (Intake, "_go_on_from", _without_seek),
    "range starts at its first record": (Intake, "_take", _starting_at_the_first_record),
    "topic id not checked": (FakeTopic, "topic_id", lambda self: _EqualsAnything("any")),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_seeded_mutant_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, replacement = MUTANTS[mutant]
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(examples=150, quick=True)  # a mutant need not be shrunk
