from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pipeline.shift.folding import LEVELS, POOLED
from pipeline.stages.folding import fold_parts
from pipeline.stages.rolling import roll_up
from pipeline.storage.engine import open_database
from pipeline.storage.monitoring import begin_monitoring, claim, made_levels, read_position
from pipeline.storage.read_only import open_read_only
from pipeline.storage.series import oldest_ticks, read_buckets, read_sums, read_totals, spans_of
from tests.monitored import MINUTE, T0, Traffic

END = T0 + 130 * MINUTE


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    """130 minutes of two segments, rolled up as far as they are complete."""
    traffic = Traffic(open_database(f"sqlite:///{tmp_path}/x.db"))
    traffic.minutes(130)
    with traffic.engine.begin() as conn:
        begin_monitoring(conn, traffic.deployment_id, now=END)
    fold_parts(traffic.engine, traffic.watched, limit=10_000, max_segments=10, now=END)
    with traffic.engine.begin() as conn:
        position = read_position(conn, traffic.deployment_id)
        assert position is not None
        claim(conn, position, now=END, evaluated_until=END)
    for level in LEVELS[1:]:
        while roll_up(traffic.engine, traffic.watched, level, now=END):
            pass
    return traffic


def test_buckets_hold_the_same_images_whichever_levels_they_are_read_from(traffic: Traffic) -> None:
    with traffic.engine.connect() as conn:
        made = made_levels(conn, traffic.deployment_id)
        found = {
            level: read_buckets(
                conn,
                traffic.deployment_id,
                [traffic.reference_id],
                spans_of(T0, END, level, made),
                timedelta(hours=1),
                None,
            )
            for level in (1, 5, 60)
        }
    assert [(one.n, one.flags) for one in found[1]] == [(one.n, one.flags) for one in found[60]]
    assert sum(one.n for one in found[5]) == 130 * 2 * 20
    assert len(found[1]) == 2 * 3
    assert all(one.low <= one.share <= one.high for one in found[1])


def test_the_lowest_and_highest_are_those_of_the_ticks_that_are_read(traffic: Traffic) -> None:
    with traffic.engine.connect() as conn:
        key = traffic.deployment_id, [traffic.reference_id]
        minutes = read_buckets(conn, *key, [(1, T0, T0 + 5 * MINUTE)], MINUTE, [POOLED])
        (bucket,) = read_buckets(conn, *key, [(1, T0, T0 + 5 * MINUTE)], 5 * MINUTE, [POOLED])
    shares = [one.share for one in minutes]
    assert (bucket.low, bucket.high) == (min(shares), max(shares))


def test_without_a_segment_all_traffic_is_the_rest_tick_by_tick(traffic: Traffic) -> None:
    key = traffic.deployment_id, [traffic.reference_id]
    first, second = traffic.segments
    with traffic.engine.connect() as conn:
        made = made_levels(conn, traffic.deployment_id)
        for level in (1, 5, 60):
            given = (spans_of(T0, END, level, made), timedelta(hours=1))
            rest = read_buckets(conn, *key, *given, [POOLED], [first])
            alone = read_buckets(conn, *key, *given, [second])
            assert [one[1:] for one in rest] == [one[1:] for one in alone]
            assert {one.segment_id for one in rest} == {POOLED}
        assert {one.segment_id for one in read_buckets(conn, *key, *given, None, [first])} == {second}
        both = read_buckets(conn, *key, *given, [POOLED, second], [first])
        assert len(both) == 2 * len(alone)
        assert read_buckets(conn, *key, *given, [POOLED], [first, second]) == []


def test_totals_and_sums_agree(traffic: Traffic) -> None:
    with traffic.engine.connect() as conn:
        spans = spans_of(T0, END, 60, made_levels(conn, traffic.deployment_id))
        totals = read_totals(conn, traffic.deployment_id, [traffic.reference_id], spans)
        sums = read_sums(conn, traffic.deployment_id, traffic.reference_id, POOLED, spans)
        assert oldest_ticks(conn, traffic.deployment_id) == {1: T0, 5: T0, 60: T0}
    assert totals[POOLED].n == 5200 == sum(one.n for _, one in sums)
    assert totals[POOLED].flags == sum(one.flags for _, one in sums)
    assert [at for at, _ in sums] == sorted(at for at, _ in sums)


def test_pages_cannot_write(traffic: Traffic, tmp_path: Path) -> None:
    engine = open_read_only(f"sqlite:///{tmp_path}/x.db")
    with engine.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM segment")) == 2
    for statement in ("DELETE FROM segment", "CREATE TABLE t (x INT)"):
        with pytest.raises(DBAPIError, match="readonly"), engine.begin() as conn:
            conn.execute(text(statement))
    engine.dispose()


def test_pages_make_no_database(tmp_path: Path) -> None:
    engine = open_read_only(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(DBAPIError, match="unable to open"), engine.connect():
        pass
    assert not (tmp_path / "none.db").exists()
