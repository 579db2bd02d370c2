"""Several workers on one PostgreSQL: whoever comes second waits, sees what the first did, and goes on."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import pytest
from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.exc import DBAPIError

from pipeline.records import Bounds, Partition
from pipeline.storage.bulk import insert_many
from pipeline.storage.deployments import OVERFLOW_SEGMENT, ensure_deployment, ensure_segments
from pipeline.storage.engine import is_transient, make_engine, open_database
from pipeline.storage.migrations.run import upgrade
from pipeline.storage.partitions import day_of, drop_expired_day, ensure_days
from pipeline.storage.references import save_reference
from pipeline.storage.samples import NewSample, insert_samples
from pipeline.storage.schema import SampleRow, ScoreRow, SegmentRow, StreamRow, to_microseconds
from pipeline.storage.scores import NewScore, insert_scores
from pipeline.storage.streams import Advance, advance, begin_stream, take_over
from tests.faults.scored import NOW, reference

T = TypeVar("T")
PLACE = Partition("images", "id-1", 0)
NOW_US = to_microseconds(NOW)
TODAY = day_of(NOW_US)


@pytest.fixture
def engine(migrated_postgres_url: str) -> Iterator[Engine]:
    engine = open_database(migrated_postgres_url)
    with engine.begin() as conn:
        save_reference(conn, reference())
        ensure_deployment(conn, "d", model_id="m@0", reference_id=1, now=NOW)
    yield engine
    engine.dispose()


@contextmanager
def meanwhile(engine: Engine, work: Callable[[Connection], T], *, waits: bool = True) -> Iterator["Future[T]"]:
    """Run `work` in a transaction of another thread; with `waits`, go on once it waits for a lock."""

    def run() -> T:
        with engine.begin() as conn:
            conn.exec_driver_sql("SET LOCAL application_name = 'second'")
            return work(conn)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run)
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock'"
        )
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            while waits and not future.done() and not conn.scalar(waiting):
                pass
        assert not (waits and future.done()), "it did not wait"
        yield future


def score(offset: int, event_time: int = NOW_US, stream: int = 1) -> NewScore:
    return NewScore(stream, offset, event_time, 0, 1, 1, None, None, None, b"h" * 32, 1, -1.0, -1.0, 0.5, 1, 0, 0)


def sample(rank: float) -> NewSample:
    return NewSample(1, 1, 1, NOW_US, "strange", rank, 1, int(rank * 1000), NOW_US, None, None, None, "{}")


def step(start: int, end: int) -> Advance:
    return Advance(start, end, scored=end - start, dead=0, holes=0, log_end=end, newest_event_time=None)


def begin(conn: Connection, number: int = 0) -> int:
    bounds = Bounds(Partition("images", "id-1", number), 0, 10)
    return begin_stream(conn, 1, bounds, first=0, owner="w", now=NOW).stream_id


def count(engine: Engine, table: type) -> int:
    with engine.connect() as conn:
        return conn.scalar(select(func.count()).select_from(table)) or 0


def test_two_workers_that_need_the_same_day_make_it_once(engine: Engine) -> None:
    with engine.begin() as first:
        assert ensure_days(first, [TODAY, TODAY + 1]) == 2
        with meanwhile(engine, lambda conn: ensure_days(conn, [TODAY, TODAY + 1, TODAY + 2])) as second:
            first.commit()
            assert second.result() == 1


def test_nobody_who_reads_or_writes_scores_waits_for_a_new_day(engine: Engine) -> None:
    with engine.begin() as conn:
        ensure_days(conn, [TODAY])

    def use(conn: Connection) -> int:
        conn.exec_driver_sql("SET LOCAL lock_timeout = '1ms'")
        insert_scores(conn, [score(1)])
        return conn.scalar(select(func.count()).select_from(ScoreRow)) or 0

    with engine.begin() as first:
        ensure_days(first, [TODAY + 1])
        with meanwhile(engine, use, waits=False) as second:
            assert second.result() == 1


def test_event_times_of_many_years_find_their_days(engine: Engine) -> None:
    times = [to_microseconds(NOW - timedelta(days=29 * i)) for i in range(25)] + [-1, 0]
    with engine.begin() as conn:
        insert_scores(conn, [score(i, at) for i, at in enumerate(times)])
        partitions = conn.scalar(text("SELECT count(*) FROM pg_inherits WHERE inhparent = 'score'::regclass"))
        assert sorted(conn.scalars(text("SELECT event_time FROM score"))) == sorted(times)
    assert partitions == len(times)


def test_a_row_without_a_partition_is_tried_again(engine: Engine) -> None:
    with engine.begin() as conn, pytest.raises(DBAPIError, match="no partition") as caught:
        insert_many(conn, ScoreRow, NewScore._fields, [score(1)])
    assert is_transient(caught.value)


def test_a_day_is_dropped_only_when_all_of_it_is_too_old(engine: Engine) -> None:
    days = [NOW - timedelta(days=n) for n in (3, 2, 1, 0)]
    with engine.begin() as conn:
        insert_scores(conn, [score(i, to_microseconds(at)) for i, at in enumerate(days)])
    dropped = []
    for _ in range(3):
        with engine.begin() as conn:
            dropped.append(drop_expired_day(conn, NOW - timedelta(days=1)))
    assert dropped == [1, 1, 0]
    with engine.connect() as conn:
        assert sorted(conn.scalars(select(ScoreRow.offset))) == [2, 3]


def test_a_day_that_somebody_reads_is_dropped_later(engine: Engine) -> None:
    with engine.begin() as conn:
        insert_scores(conn, [score(1)])
    with engine.connect() as reader:
        reader.execute(select(ScoreRow.offset)).all()
        with pytest.raises(DBAPIError, match="lock timeout") as caught, engine.begin() as conn:
            drop_expired_day(conn, NOW + timedelta(days=2))
    assert is_transient(caught.value)
    with engine.begin() as conn:
        assert drop_expired_day(conn, NOW + timedelta(days=2)) == 1


def test_two_workers_that_drop_the_same_day_both_go_on(engine: Engine) -> None:
    with engine.begin() as conn:
        insert_scores(conn, [score(1)])
    with engine.begin() as first:
        first.exec_driver_sql("LOCK TABLE ONLY score IN ACCESS EXCLUSIVE MODE")
        assert drop_expired_day(first, NOW + timedelta(days=2)) == 1

        def drop(conn: Connection) -> int:
            conn.exec_driver_sql("ALTER FUNCTION drop_score_day SET lock_timeout = '30s'")
            return drop_expired_day(conn, NOW + timedelta(days=2))

        with meanwhile(engine, drop) as second:
            first.commit()
            assert second.result() == 0


def test_two_workers_that_begin_one_stream_share_it(engine: Engine) -> None:
    bounds = Bounds(PLACE, 0, 10)
    with engine.begin() as first:
        begun = begin_stream(first, 1, bounds, first=0, owner="a", now=NOW)
        with meanwhile(engine, lambda conn: begin_stream(conn, 1, bounds, first=5, owner="b", now=NOW)) as second:
            first.commit()
            taken = second.result()
    assert (taken.stream_id, taken.next_offset, taken.attempts) == (begun.stream_id, 0, 2)


def test_two_workers_that_make_one_deployment_share_it(engine: Engine) -> None:
    def ensure(conn: Connection) -> int:
        return ensure_deployment(conn, "new", model_id="m@0", reference_id=1, now=NOW)

    with engine.begin() as first:
        key = ensure(first)
        with meanwhile(engine, ensure) as second:
            first.commit()
            assert second.result() == key


def test_workers_count_segments_together(engine: Engine) -> None:
    with engine.begin() as first:
        mine = ensure_segments(first, 1, ["a", "b", "c"], limit=5)
        with meanwhile(engine, lambda conn: ensure_segments(conn, 1, ["c", "d", "e", "f", "g"], limit=5)) as second:
            first.commit()
            theirs = second.result()
    assert theirs["c"] == mine["c"]
    assert theirs["f"] == theirs["g"]
    with engine.connect() as conn:
        names = conn.scalars(select(SegmentRow.name).order_by(SegmentRow.id)).all()
    assert names == ["a", "b", "c", "d", "e", OVERFLOW_SEGMENT]


def test_known_segments_wait_for_nobody(engine: Engine) -> None:
    with engine.begin() as conn:
        known = ensure_segments(conn, 1, ["a", "b"], limit=2)
    with engine.begin() as first:
        first.exec_driver_sql("SELECT FROM deployment FOR UPDATE")
        with meanwhile(engine, lambda conn: ensure_segments(conn, 1, ["b", "a"], limit=2), waits=False) as second:
            assert second.result() == known


def test_of_two_workers_with_one_range_the_second_is_fenced(engine: Engine) -> None:
    with engine.begin() as conn:
        stream = begin(conn)
    with engine.begin() as first:
        assert advance(first, stream, step(0, 5), owner="a", now=NOW)
        with meanwhile(engine, lambda conn: advance(conn, stream, step(0, 5), owner="b", now=NOW)) as second:
            first.commit()
            assert second.result() is False


def test_workers_that_fill_one_slot_do_not_wait_for_one_another(engine: Engine) -> None:
    with engine.begin() as conn:
        insert_samples(conn, [sample(rank) for rank in (0.1, 0.2)], places=2)
    with engine.begin() as first:
        insert_samples(first, [sample(0.3)], places=2)
        with meanwhile(engine, lambda conn: insert_samples(conn, [sample(0.4)], places=2), waits=False) as second:
            second.result()
    with engine.begin() as conn:
        insert_samples(conn, [sample(0.5)], places=2)
        assert sorted(conn.scalars(select(SampleRow.rank))) == [0.4, 0.5]


def test_two_writers_that_race_over_one_stream_store_every_offset_once(engine: Engine) -> None:
    with engine.begin() as conn:
        stream = begin(conn)
        ensure_days(conn, [TODAY])

    def work(owner: str) -> int:
        fenced = 0
        while True:
            with engine.begin() as conn:
                cursor = take_over(conn, 1, PLACE, owner=owner, now=NOW)
            assert cursor is not None
            if cursor.next_offset >= 1_000:
                return fenced
            start, end = cursor.next_offset, cursor.next_offset + 10
            with engine.begin() as conn:
                if not advance(conn, stream, step(start, end), owner=owner, now=NOW):
                    fenced += 1
                    continue
                insert_scores(conn, [score(offset, stream=stream) for offset in range(start, end)])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ["a", "b"]))
    with engine.connect() as conn:
        offsets = conn.scalars(select(ScoreRow.offset).order_by(ScoreRow.offset)).all()
        assert offsets == list(range(1_000))
        assert conn.scalar(select(StreamRow.scored)) == 1_000


def test_a_deadlock_is_tried_again(engine: Engine) -> None:
    with engine.begin() as conn:
        keys = [begin(conn, number) for number in range(2)]

    def touch(conn: Connection, key: int) -> None:
        conn.exec_driver_sql("SET LOCAL deadlock_timeout = '10ms'")
        conn.execute(update(StreamRow).where(StreamRow.id == key).values(attempts=7))

    def opposite(conn: Connection) -> None:
        for key in reversed(keys):
            touch(conn, key)

    failures: list[DBAPIError] = []
    with engine.connect() as first:
        touch(first, keys[0])
        with meanwhile(engine, opposite) as second:
            try:
                touch(first, keys[1])
            except DBAPIError as error:
                failures.append(error)
            first.rollback()
        failure = second.exception()
        failures += [failure] if isinstance(failure, DBAPIError) else []
    assert [is_transient(error) for error in failures] == [True]
    assert "deadlock" in str(failures[0])


def test_a_serialization_failure_is_tried_again(engine: Engine) -> None:
    with engine.begin() as conn:
        stream = begin(conn)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as strict:
        strict.execute(select(StreamRow.id)).all()
        with engine.begin() as conn:
            advance(conn, stream, step(0, 5), owner="a", now=NOW)
        with pytest.raises(DBAPIError, match="could not serialize") as caught:
            advance(strict, stream, step(0, 5), owner="b", now=NOW)
    assert is_transient(caught.value)


def test_a_frozen_transaction_is_ended_and_its_successor_goes_on(engine: Engine, migrated_postgres_url: str) -> None:
    with engine.begin() as conn:
        stream = begin(conn)
    impatient = make_engine(migrated_postgres_url, idle_in_transaction_s=0.2)
    with impatient.connect() as frozen:
        assert advance(frozen, stream, step(0, 5), owner="a", now=NOW)
        with engine.begin() as successor:
            assert advance(successor, stream, step(0, 5), owner="b", now=NOW)
        with pytest.raises(DBAPIError, match="idle-in-transaction") as caught:
            frozen.commit()
    impatient.dispose()
    assert is_transient(caught.value)
    with engine.connect() as conn:
        assert conn.execute(select(StreamRow.next_offset, StreamRow.owner)).all() == [(5, "b")]


def test_two_migrations_at_once_make_one(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(upgrade, [engine, engine]))
    with engine.connect() as conn:
        assert conn.scalars(text("SELECT version_num FROM alembic_version")).all() != []
    engine.dispose()
