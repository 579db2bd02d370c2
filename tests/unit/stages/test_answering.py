from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from pipeline.alerts.incident import Event, Incident
from pipeline.alerts.page import headline
from pipeline.monitor import Monitor
from pipeline.shift.folding import POOLED
from pipeline.stages.answering import Composer
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import open_database, reading
from pipeline.storage.marks import add_mark
from pipeline.storage.monitoring import Watched
from tests.monitored import MINUTE, T0, Traffic, counting, monitor
from tests.unit.alerts.told import alert, incident

COMPOSER = Composer("http://127.0.0.1:8501", 0.1, 0.25)
ONSET = T0 + 90 * MINUTE
SEEN = ONSET + 30 * MINUTE
LATER = T0 + 130 * MINUTE


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


def judged(engine: Engine, segments: int = 3) -> Traffic:
    """An hour and a half of normal minutes; then half an hour in which half of one segment's images are flagged."""
    traffic = Traffic(engine, segments=segments)
    for minute in range(120):
        strange = 0.5 if minute >= 90 else 0.05
        parts = [
            part
            for segment in range(segments)
            for part in traffic.part(
                T0 + minute * MINUTE,
                minute * 1000 + segment,
                segment=segment,
                flagged=strange if segment == 1 else 0.05,
            )
        ]
        traffic.write(parts)
    traffic.move(T0 + 120 * MINUTE)
    watch: Monitor = monitor(engine, SEEN)
    watch.run()
    return traffic


def event() -> Event:
    return Event(7, None, None, SEEN, "raise", "ok", "critical", "monitor", "")


def answer(engine: Engine, traffic: Traffic, **more: object) -> dict[str, Any]:
    raised = alert(segment="cam-1", reference_id=traffic.reference_id, onset=ONSET)
    of = incident(raised, onset=ONSET, deployment_id=traffic.deployment_id, **more)
    with reading(engine).connect() as conn:
        return COMPOSER(conn, traffic.watched, of, event())


def test_an_answer_counts_what_is_stored_since_the_onset_and_before(engine: Engine) -> None:
    traffic = judged(engine)
    told = answer(engine, traffic)
    sums = [
        tick for key, tick in traffic.stored().items() if key.segment_id == traffic.segments[1] and key.start >= ONSET
    ]
    n, k = sum(one.n for one in sums), sum(one.flags for one in sums)
    assert (told["n"], told["value"]) == (n, k / n) == (600, k / 600)
    assert told["window"] == {"from": "2026-11-24T01:30:00Z", "to": "2026-11-24T02:00:00Z"}
    earlier = [
        tick for key, tick in traffic.stored().items() if key.segment_id == traffic.segments[1] and key.start < ONSET
    ]
    pooled = [tick for key, tick in traffic.stored().items() if key.segment_id == POOLED and key.start < ONSET]
    of_all = (sum(one.flags for one in pooled) + 200 * 0.05) / (sum(one.n for one in pooled) + 200)
    assert told["normal"] == pytest.approx((sum(one.flags for one in earlier) + 200 * of_all) / (1800 + 200))
    first, *_ = told["attribution"]
    assert first["segment"] == "cam-1"
    assert first["share"] > 0.9
    assert told["cause"][0]["kind"] == "new_class"


def two_troubles(engine: Engine, until: int = 80) -> tuple[Traffic, Incident]:
    """cam-0 has been troubled from minute 30 on, by default to 80, and cam-1 is so from minute 100 on."""
    traffic = Traffic(engine, segments=3)
    for minute in range(130):
        shares = (0.8 if 30 <= minute < until else 0.05, 0.6 if minute >= 100 else 0.05, 0.05)
        parts = [
            part
            for segment, share in enumerate(shares)
            for part in traffic.part(T0 + minute * MINUTE, minute * 1000 + segment, segment=segment, flagged=share)
        ]
        traffic.write(parts)
    traffic.move(T0 + 130 * MINUTE)
    monitor(engine, LATER).run()
    first, second = (
        alert(segment=name, state=state, reference_id=traffic.reference_id, onset=T0 + minute * MINUTE)
        for name, state, minute in (("cam-0", "critical", 30), ("cam-1", "warning", 100))
    )
    return traffic, incident(first, second, onset=first.onset, deployment_id=traffic.deployment_id)


def test_an_event_of_a_later_alert_is_answered_of_that_alert_alone(engine: Engine) -> None:
    traffic, of = two_troubles(engine)
    raised = Event(7, ("fraction", "cam-1"), None, LATER, "raise", "ok", "warning", "monitor", "")
    with reading(engine).connect() as conn:
        told = COMPOSER(conn, traffic.watched, of, raised)
        whole = COMPOSER(conn, traffic.watched, of, replace(raised, alert=None, kind="note"))
    since = T0 + 100 * MINUTE
    sums = [
        tick for key, tick in traffic.stored().items() if key.segment_id == traffic.segments[1] and key.start >= since
    ]
    n, k = sum(one.n for one in sums), sum(one.flags for one in sums)
    assert (told["segment"], told["n"], told["value"]) == ("cam-1", n, k / n)
    assert told["interval"]["low"] < k / n < told["interval"]["high"]
    assert told["onset"] == told["window"]["from"] == told["alert"]["onset"] == "2026-11-24T01:40:00Z"
    shares = {one["segment"]: one["share"] for one in told["attribution"] if "segment" in one}
    assert shares["cam-1"] > 0.9
    assert told["cause"][0]["kind"] == "new_class"
    assert "in 1 of 3 segments: cam-1" in told["cause"][0]["evidence"]
    assert headline(told).startswith("d warning: unusual images on cam-1 since 2026-11-24 01:40Z, ")
    assert (whole["segment"], whole["onset"]) == ("cam-0", "2026-11-24T00:30:00Z")
    assert "in 1 of 3 segments: cam-0" in whole["cause"][0]["evidence"]


@pytest.mark.parametrize("segment", ["cam-1", ""])
def test_what_has_gone_on_elsewhere_for_long_is_no_part_of_a_later_cause(engine: Engine, segment: str) -> None:
    traffic, of = two_troubles(engine, until=130)
    first, second = of.alerts
    of = replace(of, alerts=(first, second, replace(second, id=3, segment="")))
    raised = Event(7, ("fraction", segment), None, LATER, "raise", "ok", "warning", "monitor", "")
    with reading(engine).connect() as conn:
        told = COMPOSER(conn, traffic.watched, of, raised)
    assert {"cam-0", "cam-1"} <= {one.get("segment") for one in told["attribution"]}
    assert "in 1 of 3 segments: cam-1" in told["cause"][0]["evidence"]


def test_images_that_stay_out_much_later_are_no_cause_of_what_was_before(engine: Engine) -> None:
    traffic, of = two_troubles(engine)
    silent = alert("silence", "", "error", id=9, reference_id=traffic.reference_id, onset=LATER)
    of = replace(of, alerts=(*of.alerts, silent))
    raised = Event(7, ("fraction", "cam-1"), None, LATER, "raise", "ok", "warning", "monitor", "")
    with reading(engine).connect() as conn:
        before = COMPOSER(conn, traffic.watched, of, raised)
        told = COMPOSER(conn, traffic.watched, of, replace(raised, alert=silent.key))
    assert (before["cause"][0]["kind"], told["cause"][0]["kind"]) == ("new_class", "traffic")


def test_the_worst_alert_of_an_incident_answers_by_its_own_onset(engine: Engine) -> None:
    traffic, of = two_troubles(engine)
    first, second = of.alerts
    of = replace(of, alerts=(replace(first, state="shift"), second), state="warning")
    with reading(engine).connect() as conn:
        told = COMPOSER(conn, traffic.watched, of, event())
    assert (told["segment"], told["onset"]) == ("cam-1", "2026-11-24T01:40:00Z")


def test_the_same_rows_give_the_same_answer_on_both_engines_and_twice(engine: Engine) -> None:
    traffic = judged(engine)
    assert answer(engine, traffic) == answer(engine, traffic)


def test_the_cost_does_not_grow_with_the_number_of_segments(engine: Engine) -> None:
    traffic = judged(engine, segments=60)
    with counting(engine) as statements:
        told = answer(engine, traffic)
    assert len(statements) < 40
    assert told["alert"]["segment"] == "cam-1"


def test_marks_of_this_deployment_and_of_all_are_told_and_those_of_others_not(engine: Engine) -> None:
    traffic = judged(engine)
    with engine.begin() as conn:
        for text, key in (("deploy v12", None), ("lens cleaned", traffic.deployment_id)):
            add_mark(conn, at=ONSET - 5 * MINUTE, text=text, who="ann", deployment_id=key, now=SEEN)
        add_mark(conn, at=ONSET - timedelta(days=3), text="old", who="ann", deployment_id=None, now=SEEN)
    told = answer(engine, traffic)
    marks = told["marks"]
    assert [(one["text"], one["when"]) for one in marks] == [
        ("deploy v12", "5 min before the onset"),
        ("lens cleaned", "5 min before the onset"),
    ]


def test_the_pipelines_own_troubles_are_told_without_a_cause(engine: Engine) -> None:
    traffic = judged(engine)
    told = answer(engine, traffic, kind="health")
    assert (told["cause"], told["attribution"], told["value"]) == ([], [], None)
    assert told["trust"]["lag_records"] == 0


def test_while_scores_mean_nothing_the_answer_says_so_and_that_nobody_is_told(engine: Engine) -> None:
    traffic = judged(engine)
    with engine.begin() as conn:
        ensure_deployment(conn, "d", model_id="x@9", reference_id=traffic.reference_id, now=SEEN)
    payload = answer(engine, traffic)
    why = "model x@9 is held against reference m-r1, which was made with m@0"
    assert payload["trust"]["reservations"][0].startswith(f"nobody is told of what rests on scores now: {why}")
    assert payload["cause"][0]["kind"] == "model"
    assert payload["cause"][0]["evidence"][0].startswith(why)


def test_an_onset_before_any_traffic_is_answered_without_a_comparison(engine: Engine) -> None:
    traffic = Traffic(engine, segments=2)
    traffic.minutes(5, flagged=0.6)
    monitor(engine, T0 + 5 * MINUTE).run()
    raised = alert(segment="", reference_id=traffic.reference_id, onset=T0)
    of = incident(raised, onset=T0, deployment_id=traffic.deployment_id)
    with reading(engine).connect() as conn:
        told = COMPOSER(conn, Watched(traffic.deployment_id, "d", traffic.reference_id), of, event())
    assert told["n"] == 200
    assert told["trust"]["reservations"][0] == "the newest image is 115 min old"
