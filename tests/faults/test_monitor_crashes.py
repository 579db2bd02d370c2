"""Whatever happens to monitors, every part is in its ticks exactly once and every tick is judged exactly once."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, delete, event, select

from pipeline.shift.folding import LEVELS, POOLED, floor
from pipeline.shift.rollup import merge
from pipeline.stages.judging import Judged
from pipeline.storage.engine import open_database
from pipeline.storage.schema import (
    DetectorStateRow,
    TickLevelRow,
)
from pipeline.storage.tables import METADATA
from tests.monitored import MINUTE, T0, Adder, Traffic, monitor


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(engine: Engine, nth: int) -> Iterator[None]:
    """Die instead of the n-th statement or commit."""
    left = nth

    def tick(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    for name in ("before_cursor_execute", "commit"):
        event.listen(engine, name, tick)
    try:
        yield
    finally:
        for name in ("before_cursor_execute", "commit"):
            event.remove(engine, name, tick)


def run_killed_again_and_again(engine: Engine, run: Callable[[], None]) -> int:
    """Die at the first statement, start anew and die at the second, ... until a run gets through; how often it died."""
    deaths = 0
    while True:
        try:
            with killed_at(engine, deaths + 1):
                run()
        except Killed:
            deaths += 1
        else:
            return deaths


def story(traffic: Traffic, run: Callable[[], None]) -> None:
    """Minutes round a full hour with transitions, then late parts: some can be replayed, some come too late."""
    traffic.minutes(15, first=50, flagged=0.5)
    run()
    for minute, n in ((51, 3), (63, 4), (64, 5)):
        traffic.write(traffic.part(T0 + minute * MINUTE, minute, n=n))
    run()


def watching(engine: Engine) -> Callable[[], None]:
    return lambda: monitor(engine, T0 + 65 * MINUTE, limit=55).run()


@pytest.fixture
def undisturbed(tmp_path: Path) -> Traffic:
    engine = open_database(f"sqlite:///{tmp_path / 'undisturbed.db'}")
    traffic = Traffic(engine)
    story(traffic, watching(engine))
    assert len(traffic.everything()["transition"]) == 4
    assert traffic.column("too_late_images") == 7
    return traffic


# Who dies closes no cursor.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_killed_before_each_statement_in_turn_it_ends_where_an_undisturbed_one_does(
    database_url: str, undisturbed: Traffic
) -> None:
    engine = open_database(database_url)
    traffic = Traffic(engine)
    deaths: list[int] = []
    story(traffic, lambda: deaths.append(run_killed_again_and_again(engine, watching(engine))))
    assert all(count > 20 for count in deaths)
    assert traffic.everything() == undisturbed.everything()
    assert traffic.stored() == traffic.written
    engine.dispose()


def test_killed_before_any_one_statement_it_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    base = open_database(f"sqlite:///{tmp_path / 'base.db'}")
    traffic = Traffic(base)
    traffic.minutes(8, first=55, flagged=0.5)
    base.dispose()

    def ended(nth: int | None) -> object:
        shutil.copy(tmp_path / "base.db", tmp_path / "copy.db")
        engine = open_database(f"sqlite:///{tmp_path / 'copy.db'}")
        traffic.engine = engine
        run = watching(engine)
        if nth is not None:
            try:
                with killed_at(engine, nth):
                    run()
            except Killed:
                pass
            else:
                engine.dispose()
                return None
        run()
        everything = traffic.everything()
        engine.dispose()
        for left in tmp_path.glob("copy.db*"):
            left.unlink()
        return everything

    whole, nth = ended(None), 1
    while (found := ended(nth)) is not None:
        assert found == whole, f"killed at statement {nth}"
        nth += 1
    assert nth > 50


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('any-order') / 'test.db'}")
    yield engine
    engine.dispose()


images = st.tuples(st.integers(0, 130), st.integers(0, 1), st.integers(1, 9))
events = st.one_of(
    st.lists(images, min_size=1, max_size=4),  # a worker's transaction
    st.integers(1, 150),  # a monitor that dies at that statement, or gets through
    st.none(),  # a monitor that is left alone
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(events, min_size=2, max_size=12))
def test_ticks_are_the_sums_of_all_parts_in_any_order_and_however_often_monitors_die(
    database: Engine, happened: list[list[tuple[int, int, int]] | int | None]
) -> None:
    with database.begin() as conn:
        for table in reversed(METADATA.sorted_tables):
            conn.execute(delete(table))
    traffic = Traffic(database)
    newest = T0
    for step, what in enumerate(happened):
        if isinstance(what, list):
            for at, (minute, segment, n) in enumerate(what):
                tick = T0 + minute * MINUTE
                traffic.write(traffic.part(tick, step * 10 + at, segment=segment, n=n))
                newest = max(newest, tick + MINUTE)
            traffic.move(newest)
        else:
            try:
                with killed_at(database, what or 10**9):
                    monitor(database, newest).run()
            except Killed:
                pass
    monitor(database, newest).run()

    assert traffic.stored() == traffic.written
    assert traffic.parts_left() == 0
    minutes = traffic.stored()
    for level in LEVELS[1:]:
        made = traffic.stored(level)
        for window, sums in made.items():
            inside = [
                value
                for key, value in minutes.items()
                if (floor(key.start, level), key.segment_id) == (window.start, window.segment_id)
            ]
            total = inside[0]
            for value in inside[1:]:
                total = merge(total, value)
            assert sums == total
        with database.connect() as conn:
            until = conn.scalar(select(TickLevelRow.made_until).where(TickLevelRow.minutes == level))
        complete = {(floor(key.start, level), key.segment_id) for key in minutes if until and key.start < until}
        assert {(key.start, key.segment_id) for key in made} == complete
    if minutes:
        detector = Adder()
        with database.connect() as conn:
            detector.restore(conn.scalar(select(DetectorStateRow.content)) or b"")
        images = sum(sums.n for key, sums in minutes.items() if key.segment_id == POOLED)
        assert detector.known["n"] == images - traffic.column("too_late_images")


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_monitor_that_was_overtaken_gives_up_what_it_read_and_reads_anew(database_url: str, nth: int) -> None:
    """Between the n-th read of the late one and its write, the quick one does everything."""
    first, second = open_database(database_url), open_database(database_url)
    traffic = Traffic(first)
    traffic.minutes(3)
    seen: list[Judged] = []
    late, quick = (monitor(engine, T0 + 65 * MINUTE, report=seen.append) for engine in (first, second))
    late.run()
    traffic.minutes(62, first=3)
    traffic.write(traffic.part(T0, 7777, n=5))  # late, so that there is a replay
    begun = 0

    def overtake(conn: Connection) -> None:
        nonlocal begun
        begun += not conn.get_execution_options().get("postgresql_readonly")
        if begun == nth:
            begun += 1
            quick.run()

    event.listen(first, "engine_connect", overtake)
    late.run()
    assert late.work.superseded == 1
    assert traffic.stored() == traffic.written
    assert sorted(line.tick for line in seen if line.kind == "tick") == [T0 + i * MINUTE for i in range(65)]
    assert sum(line.kind == "revision" for line in seen) == 1
    for engine in (first, second):
        engine.dispose()


@pytest.mark.parametrize("nth", range(1, 10))
def test_what_a_worker_writes_while_the_monitor_runs_is_judged_with_its_tick_and_not_as_late(
    database_url: str, nth: int
) -> None:
    """Before the n-th connection of the monitor a worker stores what makes ticks due that nobody has folded yet."""
    watched, working = open_database(database_url), open_database(database_url)
    traffic = Traffic(working)
    traffic.minutes(3)
    seen: list[Judged] = []
    begun = 0

    def work(conn: Connection) -> None:
        nonlocal begun
        begun += 1
        if begun == nth:
            traffic.minutes(4, first=3)

    watching = monitor(watched, T0 + 7 * MINUTE, report=seen.append)
    event.listen(watched, "engine_connect", work)
    watching.run()
    assert begun >= nth
    watching.run()
    assert [(line.kind, line.tick, line.n) for line in seen] == [("tick", T0 + i * MINUTE, 40) for i in range(7)]
    assert traffic.column("late_images") == 0
    for engine in (watched, working):
        engine.dispose()


def test_two_monitors_and_a_writer_at_once_fold_every_part_once_and_judge_every_tick_once(database_url: str) -> None:
    engines = [open_database(database_url) for _ in range(3)]
    traffic = Traffic(engines[0])
    seen: list[Judged] = []

    def watch(engine: Engine) -> int:
        watching = monitor(engine, T0 + 60 * MINUTE, report=seen.append)
        for _ in range(25):
            watching.run()
        return watching.work.parts

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(watch, engine) for engine in engines[1:]]
        for minute in range(40):
            traffic.minutes(1, first=minute)
        counts = [future.result() for future in futures]
    last = monitor(engines[0], T0 + 60 * MINUTE, report=seen.append)
    last.run()
    assert sum(counts) + last.work.parts == 40 * 4 == traffic.column("folded_parts")
    assert traffic.stored() == traffic.written
    once = sorted(line.tick for line in seen if line.kind == "tick")
    assert once == [T0 + i * MINUTE for i in range(40)]
    detector = Adder()
    with engines[0].connect() as conn:
        detector.restore(conn.scalar(select(DetectorStateRow.content)) or b"")
    assert detector.known["n"] == 40 * 40
    for engine in engines:
        engine.dispose()
