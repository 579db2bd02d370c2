from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest

from pipeline.shift.folding import LEVELS, TickKey, floor
from pipeline.shift.rollup import RollUp, merge
from pipeline.stages.judging import Judged
from pipeline.storage.engine import open_database
from tests.monitored import MINUTE, T0, Traffic, monitor


@pytest.fixture
def traffic(database_url: str) -> Iterator[Traffic]:
    engine = open_database(database_url)
    yield Traffic(engine)
    engine.dispose()


def coarser(ticks: dict[TickKey, RollUp], minutes: int) -> dict[TickKey, RollUp]:
    made: dict[TickKey, RollUp] = {}
    for key, sums in sorted(ticks.items()):
        at = key._replace(start=floor(key.start, minutes), minutes=minutes)
        made[at] = merge(made[at], sums) if at in made else sums
    return made


def test_ticks_are_the_sums_of_their_parts_and_the_parts_are_gone(traffic: Traffic) -> None:
    traffic.minutes(7)
    monitor(traffic.engine, T0 + 7 * MINUTE).run()
    assert traffic.stored() == traffic.written
    assert traffic.parts_left() == 0
    assert traffic.column("folded_parts") == 7 * 2 * 2


def test_a_tick_is_evaluated_once_when_the_watermark_has_passed_its_end(traffic: Traffic) -> None:
    seen: list[Judged] = []
    traffic.minutes(3)
    traffic.move(T0 + 2.5 * MINUTE)
    watching = monitor(traffic.engine, T0 + 3 * MINUTE, report=seen.append)
    watching.run()
    assert [line.tick for line in seen] == [T0, T0 + MINUTE]
    assert [line.n for line in seen] == [40, 40]
    traffic.move(T0 + 3 * MINUTE)
    watching.run()
    watching.run()
    assert [line.tick for line in seen] == [T0, T0 + MINUTE, T0 + 2 * MINUTE]
    assert traffic.column("evaluated_until") == T0 + 3 * MINUTE


def test_coarser_ticks_are_the_exact_sums_of_their_minutes(traffic: Traffic) -> None:
    traffic.minutes(2 * 1440 + 3)
    monitor(traffic.engine, T0 + timedelta(days=2, minutes=3)).run()
    for finer, minutes in pairwise(LEVELS):
        complete = {key: sums for key, sums in traffic.stored(finer).items() if key.start < T0 + timedelta(days=2)}
        assert traffic.stored(minutes) == coarser(complete, minutes)
        assert len(traffic.stored(minutes)) == 2 * 1440 // minutes * 3
