"""The whole monitor on both engines, with a detector that adds up."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select, text, update

from pipeline.shift.folding import LEVELS, POOLED, TickKey, floor
from pipeline.shift.rollup import CorruptRollUp, RollUp, merge
from pipeline.stages.judging import Judged, Patience
from pipeline.storage.engine import open_database
from pipeline.storage.references import save_reference
from pipeline.storage.schema import DeploymentRow, DetectorStateRow, MonitorRow, TickLevelRow, TickRow, TransitionRow
from pipeline.storage.ticks import TickRetention
from tests.faults.scored import reference
from tests.monitored import LIMITS, MINUTE, T0, Traffic, counting, monitor


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


def count(traffic: Traffic, query: str) -> int:
    with traffic.engine.connect() as conn:
        return int(conn.scalar(text(query)) or 0)


def test_ticks_are_the_sums_of_their_parts_and_the_parts_are_gone(traffic: Traffic) -> None:
    traffic.minutes(7)
    monitor(traffic.engine, T0 + 7 * MINUTE).run()
    assert traffic.stored() == traffic.written
    assert traffic.parts_left() == 0
    assert traffic.column("folded_parts") == 7 * 2 * 2


def test_columns_of_a_tick_say_what_its_content_says(traffic: Traffic) -> None:
    traffic.minutes(1)
    monitor(traffic.engine, T0 + MINUTE).run()
    (sums,) = (sums for key, sums in traffic.stored().items() if key.segment_id == POOLED)
    with traffic.engine.connect() as conn:
        row = conn.execute(select(TickRow.__table__).where(TickRow.segment_id == POOLED, TickRow.minutes == 1)).one()
    assert (row.n, row.flags, row.repeats) == (sums.n, sums.flags, sums.repeats)
    assert (row.score_sum, row.score_squares, row.energy_sum) == (sums.score_sum, sums.score_squares, sums.energy_sum)
    assert row.n == 40


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


def test_a_day_that_was_missed_is_caught_up_in_order_and_rolled_up_exactly(traffic: Traffic) -> None:
    seen: list[Judged] = []
    traffic.minutes(1443)
    monitor(traffic.engine, T0 + 1443 * MINUTE, report=seen.append).run()
    assert [line.tick for line in seen] == [T0 + i * MINUTE for i in range(1443)]
    for finer, minutes in pairwise(LEVELS):
        complete = {key: sums for key, sums in traffic.stored(finer).items() if key.start < T0 + timedelta(days=1)}
        assert traffic.stored(minutes) == coarser(complete, minutes)
        assert len(traffic.stored(minutes)) == 1440 // minutes * 3


def test_minutes_without_images_are_evaluated_and_roll_up_to_nothing(traffic: Traffic) -> None:
    seen: list[Judged] = []
    traffic.minutes(2)
    traffic.minutes(2, first=200)
    monitor(traffic.engine, T0 + 202 * MINUTE, report=seen.append).run()
    assert [line.n for line in seen] == [40, 40, *[0] * 198, 40, 40]
    assert len(traffic.stored(5)) == 3  # of minute 200 none is complete
    assert len(traffic.stored(60)) == 3


def test_a_late_part_revises_its_tick_and_the_detector_ends_as_if_it_had_been_there(database_url: str) -> None:
    engine = open_database(database_url)
    late = Traffic(engine)
    late.minutes(130)
    held = late.part(T0 + 70 * MINUTE, 999, n=15)
    seen: list[Judged] = []
    watching = monitor(engine, T0 + 130 * MINUTE, report=seen.append)
    watching.run()
    before = late.everything()["detector_state"]
    late.write(held)
    seen.clear()
    watching.run()
    assert late.stored() == late.written
    for finer, minutes in ((1, 5), (5, 60)):
        complete = {key: sums for key, sums in late.stored(finer).items() if key.start < T0 + 120 * MINUTE}
        assert {k: v for k, v in late.stored(minutes).items() if k.start < T0 + 120 * MINUTE} == coarser(
            complete, minutes
        )
    assert [(line.tick, line.kind) for line in seen] == [(T0 + 129 * MINUTE, "revision")]
    assert count(late, "SELECT sum(revision) FROM tick WHERE minutes = 1") == 2  # the segment's and the pooled one
    assert count(late, "SELECT sum(revision) FROM tick WHERE minutes = 5") == 2
    assert count(late, "SELECT sum(revision) FROM tick WHERE minutes = 60") == 2
    assert (late.column("late_parts"), late.column("late_images"), late.column("too_late_images")) == (2, 15, 0)
    after = late.everything()
    assert after["detector_state"] != before

    with engine.begin() as conn:  # the same once more, in time
        for table in ("tick", "tick_level", "monitor", "detector_state", "detector_checkpoint", "verdict"):
            conn.execute(text(f"DELETE FROM {table}"))
    late.minutes(130)
    late.write(held)
    monitor(engine, T0 + 130 * MINUTE).run()
    in_time = late.everything()
    assert in_time["detector_state"] == after["detector_state"]
    assert in_time["detector_checkpoint"] == after["detector_checkpoint"]
    assert in_time["verdict"] == after["verdict"]
    engine.dispose()


def test_a_part_before_the_last_transition_changes_roll_ups_but_no_evidence(traffic: Traffic) -> None:
    traffic.minutes(60, flagged=0.5)  # some 20 flags a minute
    watching = monitor(traffic.engine, T0 + 60 * MINUTE, limit=500)
    watching.run()
    with traffic.engine.connect() as conn:
        transitions = conn.execute(select(TransitionRow.tick, TransitionRow.from_state, TransitionRow.state)).all()
    assert [tuple(row[1:]) for row in transitions] == [("ok", "shift"), ("shift", "ok")]
    last = transitions[-1].tick
    before = traffic.everything()["detector_state"]
    traffic.write(traffic.part(last, 12345, n=7))
    watching.run()
    assert traffic.stored() == traffic.written
    assert traffic.everything()["detector_state"] == before
    assert (traffic.column("late_images"), traffic.column("too_late_images")) == (7, 7)
    traffic.write(traffic.part(last + MINUTE, 12346, n=9))
    watching.run()
    assert traffic.everything()["detector_state"] != before
    assert (traffic.column("late_images"), traffic.column("too_late_images")) == (16, 7)
    with traffic.engine.connect() as conn:
        assert conn.execute(select(TransitionRow.tick)).all() == [(row.tick,) for row in transitions]


def test_parts_older_than_evidence_is_replayed_change_only_roll_ups(traffic: Traffic) -> None:
    limits = replace(LIMITS, patience=Patience(lateness=timedelta(0), revise=timedelta(hours=2)))
    traffic.minutes(1)
    traffic.minutes(1, first=300)
    watching = monitor(traffic.engine, T0 + 301 * MINUTE, limits=limits)
    watching.run()
    assert count(traffic, "SELECT count(*) FROM detector_checkpoint") == 2  # of minutes 240 and 300
    traffic.write(traffic.part(T0 + 100 * MINUTE, 5, n=3))
    traffic.write(traffic.part(T0 + 270 * MINUTE, 6, n=4))
    watching.run()
    assert (traffic.column("late_images"), traffic.column("too_late_images")) == (7, 3)
    hours = {key.start: sums.n for key, sums in traffic.stored(60).items() if key.segment_id == POOLED}
    assert hours == {T0: 40, T0 + 60 * MINUTE: 3, T0 + 240 * MINUTE: 4}


def test_an_idle_partition_holds_no_tick_open(database_url: str) -> None:
    engine = open_database(database_url)
    traffic = Traffic(engine, partitions=2)
    traffic.minutes(10)
    traffic.move(T0 + 3 * MINUTE, at=T0 + 9 * MINUTE, partition=1)
    limits = replace(LIMITS, patience=Patience(lateness=timedelta(0), idle=2 * MINUTE))
    monitor(engine, T0 + 10 * MINUTE, limits=limits).run()
    assert traffic.column("evaluated_until") == T0 + 3 * MINUTE
    traffic.move(T0 + 10 * MINUTE, at=T0 + 13 * MINUTE)
    monitor(engine, T0 + 13 * MINUTE, limits=limits).run()  # partition 1 last moved four minutes ago
    assert traffic.column("evaluated_until") == T0 + 10 * MINUTE
    engine.dispose()


def test_ticks_wait_for_the_allowed_lateness(traffic: Traffic) -> None:
    limits = replace(LIMITS, patience=Patience(lateness=timedelta(seconds=90)))
    traffic.minutes(5)
    monitor(traffic.engine, T0 + 5 * MINUTE, limits=limits).run()
    assert traffic.column("evaluated_until") == T0 + 3 * MINUTE
    assert traffic.column("watermark") == T0 + 5 * MINUTE


def test_a_clock_that_steps_back_an_hour_neither_repeats_nor_loses_anything(traffic: Traffic) -> None:
    seen: list[Judged] = []
    now = T0 + 100 * MINUTE
    watching = monitor(traffic.engine, lambda: now, report=seen.append)
    traffic.minutes(100)
    watching.run()
    now -= timedelta(hours=1)
    traffic.minutes(5, first=100)
    watching.run()
    assert [line.tick for line in seen] == [T0 + i * MINUTE for i in range(105)]
    assert traffic.stored() == traffic.written
    assert traffic.parts_left() == 0


def test_ticks_are_kept_as_long_as_their_level_says(traffic: Traffic) -> None:
    keep = TickRetention(timedelta(days=14), timedelta(days=90), timedelta(days=730), timedelta(days=3650))
    traffic.minutes(3)
    traffic.move(T0 + timedelta(days=1))
    for days, levels in ((1, {1, 5, 60, 1440}), (15, {5, 60, 1440}), (91, {60, 1440}), (731, {1440}), (3651, set())):
        at = T0 + timedelta(days=days)
        monitor(traffic.engine, at, limits=replace(LIMITS, keep=keep)).run()
        assert {key.minutes for level in LEVELS for key in traffic.stored(level)} == levels
        with traffic.engine.begin() as conn:  # ten years, minute by minute, would take a while
            conn.execute(update(MonitorRow).values(evaluated_until=at + timedelta(days=3000)))
            conn.execute(update(TickLevelRow).values(made_until=at + timedelta(days=3000)))


def test_what_is_still_to_be_evaluated_is_kept_however_old_it_is(traffic: Traffic) -> None:
    traffic.minutes(3)
    traffic.move(T0 + 1.5 * MINUTE)
    monitor(traffic.engine, T0 + timedelta(days=100)).run()
    traffic.move(T0 + 1.5 * MINUTE, at=T0 + timedelta(days=100))
    monitor(traffic.engine, T0 + timedelta(days=100)).run()
    assert traffic.stored() == traffic.written


def test_segments_beyond_the_cap_are_counted_as_other_and_said_once(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_database(database_url)
    traffic = Traffic(engine, segments=5)
    limits = replace(LIMITS, max_segments=3)
    traffic.minutes(2)
    monitor(engine, T0 + 2 * MINUTE, limits=limits).run()
    traffic.minutes(1, first=2)
    monitor(engine, T0 + 3 * MINUTE, limits=limits).run()
    with engine.connect() as conn:
        rows = conn.execute(
            text(
                "SELECT s.name, sum(t.n) FROM tick t JOIN segment s ON s.id = t.segment_id WHERE t.minutes = 1"
                " GROUP BY s.name ORDER BY s.name"
            )
        ).all()
    assert [tuple(row) for row in rows] == [("cam-0", 60), ("cam-1", 60), ("cam-2", 60), ("other", 120)]
    assert traffic.column("overflow_parts") == 6
    assert sum("more than 3 segments" in record.message for record in caplog.records) == 1
    engine.dispose()


def test_silence_is_judged_by_the_time_since_images_last_came(traffic: Traffic) -> None:
    traffic.minutes(2)
    quiet = timedelta(minutes=30)
    monitor(traffic.engine, T0 + 2 * MINUTE, silent_after=quiet).run()
    monitor(traffic.engine, T0 + 31 * MINUTE, silent_after=quiet).run()
    assert count(traffic, "SELECT count(*) FROM transition") == 0
    for _ in range(3):
        monitor(traffic.engine, T0 + 33 * MINUTE, silent_after=quiet).run()
    assert count(traffic, "SELECT count(*) FROM transition WHERE stream = 'silence' AND state = 'shift'") == 1
    traffic.minutes(1, first=33)
    monitor(traffic.engine, T0 + 34 * MINUTE, silent_after=quiet).run()
    assert count(traffic, "SELECT count(*) FROM transition WHERE stream = 'silence' AND state = 'ok'") == 1


def test_a_fast_clock_does_not_make_a_machines_pause_a_silence(traffic: Traffic) -> None:
    traffic.minutes(2)
    quiet = timedelta(minutes=30)
    limits = replace(LIMITS, patience=replace(LIMITS.patience, pace=60.0))
    monitor(traffic.engine, T0 + 2 * MINUTE, silent_after=quiet, limits=limits).run()
    monitor(traffic.engine, T0 + 29 * 60 * MINUTE, silent_after=quiet, limits=limits).run()
    assert count(traffic, "SELECT count(*) FROM transition WHERE stream = 'silence'") == 0
    monitor(traffic.engine, T0 + 31 * 60 * MINUTE, silent_after=quiet, limits=limits).run()
    assert count(traffic, "SELECT count(*) FROM transition WHERE stream = 'silence' AND state = 'shift'") == 1


def test_a_run_costs_the_same_after_three_days_as_after_one_hour(traffic: Traffic) -> None:
    def statements(first: int) -> int:
        traffic.minutes(1, first=first)
        with counting(traffic.engine) as seen:
            monitor(traffic.engine, T0 + (first + 1) * MINUTE).run()
        return len(seen)

    traffic.minutes(60)
    monitor(traffic.engine, T0 + 60 * MINUTE).run()
    early = statements(61)
    traffic.minutes(1, first=3 * 1440)
    monitor(traffic.engine, T0 + 3 * 1440 * MINUTE).run()
    assert statements(3 * 1440 + 1) == early


def test_a_part_that_does_not_decode_is_named_and_nothing_is_lost(traffic: Traffic) -> None:
    traffic.minutes(1)
    with traffic.engine.begin() as conn:
        conn.execute(text("UPDATE roll_up_part SET content = :content WHERE id = 2"), {"content": b"\x09"})
    with pytest.raises(CorruptRollUp, match="part 2 of tick 2026-11-24T00:00Z: roll-up format 09"):
        monitor(traffic.engine, T0 + MINUTE).run()
    assert traffic.parts_left() == 4


def test_a_detector_of_another_configuration_begins_anew_and_replays_nothing_older(
    traffic: Traffic, caplog: pytest.LogCaptureFixture
) -> None:
    traffic.minutes(70)
    monitor(traffic.engine, T0 + 70 * MINUTE, limit=1e6).run()
    traffic.minutes(5, first=70)
    traffic.write(traffic.part(T0 + 50 * MINUTE, 1, n=3))
    changed = monitor(traffic.engine, T0 + 75 * MINUTE, limit=2e6)
    changed.run()
    with traffic.engine.connect() as conn:
        content = conn.scalar(select(DetectorStateRow.content))
    assert json.loads(content or b"")["n"] == 5 * 40
    assert any("begins anew" in record.message for record in caplog.records)
    traffic.write(traffic.part(T0 + 60 * MINUTE, 2, n=4))
    traffic.write(traffic.part(T0 + 72 * MINUTE, 3, n=5))
    changed.run()
    with traffic.engine.connect() as conn:
        content = conn.scalar(select(DetectorStateRow.content))
    assert json.loads(content or b"")["n"] == 5 * 40 + 5
    assert traffic.stored() == traffic.written


def transitions(traffic: Traffic) -> list[tuple[object, ...]]:
    columns = TransitionRow.from_state, TransitionRow.state, TransitionRow.leading
    with traffic.engine.connect() as conn:
        return [tuple(row) for row in conn.execute(select(*columns).order_by(TransitionRow.id))]


def test_what_a_detector_had_raised_ends_when_another_begins_in_its_place(traffic: Traffic) -> None:
    traffic.minutes(10, flagged=0.5)
    monitor(traffic.engine, T0 + 10 * MINUTE, limit=60).run()
    raised = transitions(traffic)
    assert raised[-1][1] == "shift"
    traffic.minutes(2, first=10)
    seen: list[Judged] = []
    monitor(traffic.engine, T0 + 12 * MINUTE, limit=1e6, report=seen.append).run()
    assert transitions(traffic) == [*raised, ("shift", "ok", "begins anew")]
    assert [len(line.transitions) for line in seen] == [1, 0]
    assert count(traffic, "SELECT count(*) FROM verdict WHERE state <> 'ok'") == 0


def test_what_a_reference_had_raised_ends_an_hour_after_another_scores_in_its_place(traffic: Traffic) -> None:
    traffic.minutes(10, flagged=0.5)
    monitor(traffic.engine, T0 + 10 * MINUTE, limit=60).run()
    raised = transitions(traffic)
    with traffic.engine.begin() as conn:
        new = save_reference(conn, replace(reference(), name="d/2", version=2))
        conn.execute(update(DeploymentRow).values(reference_id=new))
    traffic.reference_id = new
    traffic.minutes(59, first=10)
    monitor(traffic.engine, T0 + 69 * MINUTE).run()
    assert transitions(traffic) == raised
    traffic.minutes(1, first=69)
    seen: list[Judged] = []
    monitor(traffic.engine, T0 + 70 * MINUTE, report=seen.append).run()
    assert transitions(traffic) == [*raised, ("shift", "ok", "replaced")]
    assert [(line.kind, line.reference) for line in seen] == [("tick", "d/2"), ("withdrawal", reference().name)]
