"""Transitions, health and time become rows, each once, whoever else writes at the same moment."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, event, insert, select, update

from pipeline.alerts.acts import Act
from pipeline.alerts.incident import Channel, Event
from pipeline.alerts.lifecycle import Rules
from pipeline.alerts.snapshot import Disk
from pipeline.assembly.handling import decide, list_incidents
from pipeline.errors import RefusedError, UsageError
from pipeline.settings import Settings, load_settings
from pipeline.stages.alerting import Alerting, look, take_in
from pipeline.storage.alert_schema import AlertRow, IncidentEventRow, IncidentRow, OutboxRow
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import open_database
from pipeline.storage.incidents import history, last_told
from pipeline.storage.monitoring import Superseded, Watched
from pipeline.storage.pipeline_health import read_snapshot
from pipeline.storage.processes import Process, beat
from pipeline.storage.references import save_reference
from pipeline.storage.schema import DeadLetterRow, MonitorRow, StreamGapRow, StreamRow, TransitionRow
from tests.alerted import ALERTED, CHANNELS, LOUD, STORY, at, change, incidents_told, rows, story
from tests.faults.scored import reference
from tests.monitored import T0, Traffic, counting, monitor

DAY = timedelta(days=1)


@pytest.fixture
def traffic(database_url: str) -> Iterator[Traffic]:
    engine = open_database(database_url)
    yield Traffic(engine)
    engine.dispose()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return load_settings(database=database_url)


def alert(traffic: Traffic, minute: float, alerting: Alerting = LOUD, *, limit: int = 100) -> list[Event]:
    """The whole stage, once."""
    now, events = at(minute), list[Event]()
    while (new := take_in(traffic.engine, traffic.watched, alerting, now=now, limit=limit)) is not None:
        events += new
    return events + look(traffic.engine, traffic.watched, alerting, now=now)


def test_a_transition_is_an_incident_with_its_history_and_what_is_to_be_told(traffic: Traffic) -> None:
    change(traffic, "segment:cam-0", "ok", "critical", 5, share=0.3)
    alert(traffic, 6)
    (incident,) = rows(traffic.engine, IncidentRow)
    (raised,) = rows(traffic.engine, AlertRow)
    (happened,) = rows(traffic.engine, IncidentEventRow)
    assert (incident["kind"], incident["state"], incident["handling"]) == ("shift", "critical", "open")
    assert (incident["onset"], incident["opened_at"], incident["resolved_at"]) == (at(5), at(6), None)
    assert (incident["told"], incident["told_at"]) == ("critical", at(6))
    assert (raised["signal"], raised["segment"], raised["state"]) == ("fraction", "cam-0", "critical")
    assert (raised["share"], raised["low"], raised["high"]) == (0.3, 0.15, 0.6)
    assert (happened["kind"], happened["alert_id"], happened["who"]) == ("raise", raised["id"], "monitor")
    outbox = rows(traffic.engine, OutboxRow)
    assert [(row["channel"], row["action"]) for row in outbox] == [("chat", "trigger"), ("pager", "trigger")]
    for row in outbox:
        assert (row["event_id"], row["next_try_at"], row["attempts"]) == (happened["id"], at(6), 0)
        assert row["payload"]["transition"] == happened["id"]
        assert row["payload"]["fingerprint"] == f"oodwatch/d/{incident['id']}"
        assert row["payload"]["severity"] == "critical"


def test_taking_in_again_and_again_changes_nothing(traffic: Traffic) -> None:
    story(traffic)
    assert len(alert(traffic, 20)) == 14
    before = incidents_told(traffic.engine)
    assert [alert(traffic, 20) for _ in range(3)] == [[], [], []]
    assert incidents_told(traffic.engine) == before


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_transitions_in_batches_of_any_size_give_the_same_rows(traffic: Traffic, limit: int) -> None:
    story(traffic)
    alert(traffic, 20, limit=limit)
    in_pieces = incidents_told(traffic.engine)
    with traffic.engine.begin() as conn:
        for table in ALERTED:
            conn.execute(delete(table))
    alert(traffic, 20)
    assert incidents_told(traffic.engine) == in_pieces
    kinds = Counter(row["kind"] for row in in_pieces["incident_event"])
    assert kinds == {"raise": 4, "escalate": 1, "step_down": 3, "resolve": 6}


def test_transitions_of_another_deployment_are_none_of_ours(traffic: Traffic) -> None:
    with traffic.engine.begin() as conn:
        other = ensure_deployment(conn, "e", model_id="m@0", reference_id=traffic.reference_id, now=T0)
    change(traffic, "pooled", "ok", "warning", 1)
    watched = Watched(other, "e", traffic.reference_id)
    assert take_in(traffic.engine, watched, LOUD, now=at(2)) == []
    assert take_in(traffic.engine, watched, LOUD, now=at(2)) is None
    assert rows(traffic.engine, IncidentRow) == []


def test_who_was_overtaken_stores_nothing_and_the_event_is_there_once(database_url: str, traffic: Traffic) -> None:
    alert(traffic, 0)
    story(traffic)
    late = open_database(database_url)
    overtaken = 0

    def overtake(conn: Connection) -> None:
        nonlocal overtaken
        if not conn.get_execution_options().get("postgresql_readonly"):
            overtaken += 1
            if overtaken == 1:
                alert(traffic, 20)

    event.listen(late, "engine_connect", overtake)
    with pytest.raises(Superseded):
        take_in(late, traffic.watched, LOUD, now=at(20))
    assert take_in(late, traffic.watched, LOUD, now=at(20)) is None
    late.dispose()
    assert len(rows(traffic.engine, IncidentEventRow)) == 14


def test_two_monitors_at_once_tell_everything_once(database_url: str, traffic: Traffic) -> None:
    engines = [open_database(database_url) for _ in range(2)]

    def watch(engine: Engine) -> None:
        watching = monitor(engine, at(20), alerting=LOUD)
        for _ in range(10):
            watching.run()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(watch, engine) for engine in engines]
        story(traffic)
        for future in futures:
            future.result()
    alert(traffic, 20)
    outbox = [(row["event_id"], row["channel"]) for row in rows(traffic.engine, OutboxRow)]
    assert len(outbox) == len(set(outbox))
    transitions = [
        row["transition_id"] for row in rows(traffic.engine, IncidentEventRow) if row["alert_id"] is not None
    ]
    assert sorted(transitions) == [row["id"] for row in rows(traffic.engine, TransitionRow)]
    assert len(transitions) == len(STORY)
    for engine in engines:
        engine.dispose()


def test_the_second_of_two_people_sees_what_the_first_did_meanwhile(traffic: Traffic, settings: Settings) -> None:
    change(traffic, "pooled", "ok", "warning", 1)
    alert(traffic, 2)
    (incident,) = rows(traffic.engine, IncidentRow)
    first = [Act("silence", "ann", "lens is cleaned", at(90))]

    def quicker() -> None:
        if first:
            decide(settings, incident["id"], first.pop(), clock=lambda: at(3))

    done = decide(settings, incident["id"], Act("acknowledge", "bob"), clock=lambda: at(4), between=quicker)
    assert (done.changed, done.before.handling, done.after.handling) == (True, "silenced", "acknowledged")
    assert [(line.kind, line.who, line.why) for line in done.meanwhile] == [("silence", "ann", "lens is cleaned")]
    assert [row["kind"] for row in rows(traffic.engine, IncidentEventRow)] == ["raise", "silence", "acknowledge"]
    (incident,) = rows(traffic.engine, IncidentRow)
    assert (incident["handling"], incident["handled_by"], incident["handled_until"]) == ("acknowledged", "bob", None)


def test_of_two_who_acknowledge_at_once_one_does_and_the_other_is_told_so(traffic: Traffic, settings: Settings) -> None:
    change(traffic, "pooled", "ok", "warning", 1)
    alert(traffic, 2)
    (incident,) = rows(traffic.engine, IncidentRow)
    with ThreadPoolExecutor(2) as pool:
        acts = [pool.submit(decide, settings, incident["id"], Act("acknowledge", who)) for who in ("ann", "bob")]
        done = [act.result() for act in acts]
    assert sorted(one.changed for one in done) == [False, True]
    assert [row["kind"] for row in rows(traffic.engine, IncidentEventRow)] == ["raise", "acknowledge"]


def test_a_decision_meets_an_incident_that_ended_meanwhile(traffic: Traffic, settings: Settings) -> None:
    change(traffic, "pooled", "ok", "warning", 1)
    alert(traffic, 2)
    (incident,) = rows(traffic.engine, IncidentRow)

    def end() -> None:
        change(traffic, "pooled", "warning", "ok", 3)
        alert(traffic, 4)

    with pytest.raises(RefusedError, match="ended at 2026-11-24T00:04Z"):
        decide(settings, incident["id"], Act("acknowledge", "ann"), clock=lambda: at(3), between=end)
    with pytest.raises(UsageError, match="there is no incident 4711"):
        decide(settings, 4711, Act("acknowledge", "ann"))


def test_a_silence_remembers_the_share_of_now_and_ends_at_twice_of_it(traffic: Traffic, settings: Settings) -> None:
    traffic.minutes(10)
    monitor(traffic.engine, at(10), alerting=LOUD).run()
    change(traffic, "segment:cam-0", "ok", "warning", 9, share=0.2)
    alert(traffic, 10)
    (incident,) = rows(traffic.engine, IncidentRow)
    act = Act("silence", "ann", "known", at(300), unless_worse=True)
    decide(settings, incident["id"], act, clock=lambda: at(11))
    assert rows(traffic.engine, IncidentRow)[0]["exception"] == {"share": 0.2}
    assert alert(traffic, 12) == []
    change(traffic, "segment:cam-0", "warning", "critical", 12, share=0.41)
    assert [(one.kind, one.loud) for one in alert(traffic, 13)] == [("escalate", False), ("expire", True)]


def test_time_ends_a_silence_and_repeats_a_critical(traffic: Traffic, settings: Settings) -> None:
    traffic.minutes(10)
    monitor(traffic.engine, at(10), alerting=LOUD).run()
    change(traffic, "pooled", "ok", "critical", 9)
    alert(traffic, 10)
    (incident,) = rows(traffic.engine, IncidentRow)
    decide(settings, incident["id"], Act("expect", "ann", "sale", at(60)), clock=lambda: at(11))
    assert [one.kind for one in alert(traffic, 60)] == ["expire"]
    assert [one.kind for one in alert(traffic, 61)] == []
    long = replace(LOUD, rules=replace(LOUD.rules, max_page_age=DAY))
    assert [one.kind for one in alert(traffic, 299, long)] == []
    assert [one.kind for one in alert(traffic, 300, long)] == ["repeat"]


def test_what_rests_on_old_images_is_late_and_told_once_they_are_recent(traffic: Traffic) -> None:
    traffic.minutes(3)
    monitor(traffic.engine, at(3), alerting=LOUD).run()
    change(traffic, "pooled", "ok", "critical", 500)
    assert [one.kind for one in alert(traffic, 501)] == ["late"]
    assert alert(traffic, 502) == []
    traffic.minutes(1, first=502)
    monitor(traffic.engine, at(503), alerting=LOUD).run()
    assert [(row["kind"], row["why"]) for row in rows(traffic.engine, IncidentEventRow)[1:]] == [
        ("repeat", "it goes on")
    ]


def test_a_detector_that_begins_anew_withdraws_its_alerts(traffic: Traffic) -> None:
    change(traffic, "pooled", "ok", "warning", 1)
    change(traffic, "pooled", "warning", "ok", 2, leading="begins anew")
    assert [one.kind for one in alert(traffic, 3)] == ["raise", "withdraw", "resolve"]


def test_alerts_of_a_reference_that_scores_no_more_are_withdrawn_after_an_hour(traffic: Traffic) -> None:
    change(traffic, "pooled", "ok", "warning", 1)
    alert(traffic, 2)
    with traffic.engine.begin() as conn:
        new = save_reference(conn, replace(reference(), name="m-r2", version=2))
        ensure_deployment(conn, "d", model_id="m@0", reference_id=new, now=at(3))
        monitor_row = {"deployment_id": traffic.deployment_id, "revision": 0, "updated_at": T0}
        counts = dict.fromkeys(("folded_parts", "late_parts", "late_images", "too_late_images", "overflow_parts"), 0)
        conn.execute(insert(MonitorRow).values(**monitor_row, **counts, evaluated_until=at(61)))
    traffic.watched = replace(traffic.watched, reference_id=new)
    assert alert(traffic, 61) == []
    with traffic.engine.begin() as conn:
        conn.execute(update(MonitorRow).values(evaluated_until=at(62)))
    assert [one.kind for one in alert(traffic, 62)] == ["withdraw", "resolve"]


def test_open_incidents_are_listed_first_and_those_that_are_over_only_on_request(
    traffic: Traffic, settings: Settings
) -> None:
    story(traffic)
    change(traffic, "pooled", "ok", "warning", 2000)
    alert(traffic, 2001)
    listed = list_incidents(settings, everything=True, answers=True)
    assert [one.incident.state for one in listed] == ["warning", "ok", "ok"]
    assert len(list_incidents(settings, everything=False)) == 1
    assert [line.kind for line in listed[0].history] == ["raise"]
    assert [one.payload and (one.payload["version"], one.payload["deployment"]) for one in listed] == 3 * [(1, "d")]
    with pytest.raises(UsageError, match="no deployment 'x'; known: d"):
        list_incidents(settings.model_copy(update={"deployment": "x"}), everything=True)


@pytest.mark.parametrize("answers", [False, True])
def test_to_list_many_incidents_takes_as_many_queries_as_to_list_few(
    traffic: Traffic, settings: Settings, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []

    @contextmanager
    def opened(_settings: Settings) -> Iterator[Engine]:
        with counting(traffic.engine) as seen:
            yield traffic.engine
        statements[:] = seen

    monkeypatch.setattr("pipeline.assembly.handling.existing_database", opened)
    counted = []
    for times in range(1, 4):
        story(traffic, 3_000 * times)
        alert(traffic, 3_000 * times + 20)
        listed = list_incidents(settings, everything=True, answers=answers)
        counted.append((len(listed), sum(len(one.history) for one in listed), len(statements)))
        assert [one.payload is not None for one in listed] == 2 * times * [answers]
    few, _, many = counted
    assert few[:2] == (2, 14)
    assert many == (6, 42, few[2])


def test_payloads_of_a_history_are_read_where_they_are_asked_for(traffic: Traffic) -> None:
    story(traffic)
    alert(traffic, 20)
    with traffic.engine.connect() as conn:
        plain, whole = history(conn, [1]), history(conn, [1], payloads=True)
        told = last_told(conn, traffic.deployment_id)
    assert {line.payload for line in plain} == {None}
    assert [line.payload is not None for line in whole] == [row["payload"] is not None for row in whole_of(traffic, 1)]
    assert told[1] == [line.payload for line in whole if line.payload is not None][-1]


def whole_of(traffic: Traffic, incident: int) -> list[dict[str, Any]]:
    """The stored history of one incident."""
    return [row for row in rows(traffic.engine, IncidentEventRow) if row["incident_id"] == incident]


def healthy(traffic: Traffic) -> None:
    """Ten minutes of images, all scored."""
    traffic.minutes(10)
    monitor(traffic.engine, at(10), alerting=LOUD).run()


def test_the_health_of_a_pipeline_is_read_from_what_is_stored(traffic: Traffic) -> None:
    healthy(traffic)
    with traffic.engine.begin() as conn:
        conn.execute(update(StreamRow).values(log_end=130, next_offset=30))
        for offset, reason in ((1, "decode"), (2, "decode"), (3, "too_large")):
            conn.execute(
                insert(DeadLetterRow).values(
                    stream_id=traffic.streams[0], offset=offset, stage="s", reason=reason, error="e", at=at(5)
                )
            )
        for start, end, reason in ((40, 47, "expired"), (50, 53, "corrupt"), (60, 90, "skipped")):
            gap = {"from_offset": start, "to_offset": end, "reason": reason, "at": at(5)}
            conn.execute(insert(StreamGapRow).values(stream_id=traffic.streams[0], **gap))
        state = {"ready": False, "reasons": ["no broker"], "images_per_second": 7.5}
        beat(conn, Process("gpu:1", "worker", "d", "0.1.0", at(0), at(9), state))
        beat(conn, Process("gpu:2", "worker", "other", "0.1.0", at(0), at(9), state))
        beat(conn, Process("mon:1", "monitor", None, "0.1.0", at(0), at(9), state))
    with traffic.engine.connect() as conn:
        seen = read_snapshot(conn, traffic.watched, Disk("/d", 5, 9), now=at(10))
    assert [(one.name, one.waiting, one.moved_at, one.newest) for one in seen.partitions] == [
        ("t/0", 100, at(10), at(10))
    ]
    assert (seen.scored, seen.dead, seen.lost) == (400, {"decode": 2, "too_large": 1}, 10)
    assert seen.skewed == {"cam-0": (0, 200), "cam-1": (0, 200)}
    assert [(one.name, one.ready, one.reasons, one.images_per_second) for one in seen.workers] == [
        ("gpu:1", False, ("no broker",), 7.5)
    ]
    assert (seen.imaged, seen.judged_until, seen.mixed) == ((at(0), at(9)), at(9), None)
    with traffic.engine.connect() as conn:
        later = read_snapshot(conn, traffic.watched, None, now=at(200))
    assert (later.scored, later.dead, later.lost, later.skewed) == (0, {}, 0, {})


def test_what_the_log_keeps_and_how_much_of_that_is_left_is_read_from_what_a_worker_noted(traffic: Traffic) -> None:
    noted = {"log_start": 10, "next_offset": 30, "log_end": 130, "retention_ms": 3_600_000, "record_time": at(5)}
    with traffic.engine.begin() as conn:
        conn.execute(update(StreamRow).values(**noted, caught_up_at=at(2)))
        seen = read_snapshot(conn, traffic.watched, None, headroom=0.1, now=at(50))
        (one,) = seen.partitions
        assert (one.kept, one.unread_since, one.ahead) == (timedelta(hours=1), at(5), None)
        assert (one.left(seen.now), seen.headroom) == (0.25, 0.1)
        conn.execute(update(StreamRow).values(retention_bytes=10**9, caught_up_at=at(49)))
        (one,) = read_snapshot(conn, traffic.watched, None, now=at(50)).partitions
        assert (one.unread_since, one.ahead, one.left(seen.now)) == (at(49), 20 / 120, 20 / 120)
        conn.execute(update(StreamRow).values(log_start=0))
        (one,) = read_snapshot(conn, traffic.watched, None, now=at(50)).partitions
        assert one.ahead is None


def test_a_pipeline_that_stands_still_is_an_incident_of_its_own_and_ends_by_itself(traffic: Traffic) -> None:
    healthy(traffic)
    with traffic.engine.begin() as conn:
        conn.execute(update(StreamRow).values(log_end=130, next_offset=30))
    assert [(one.kind, one.alert, one.to_state) for one in alert(traffic, 21)] == [("raise", ("results", ""), "error")]
    assert alert(traffic, 22) == []
    (incident,) = rows(traffic.engine, IncidentRow)
    assert (incident["kind"], incident["onset"], incident["provisional"]) == ("health", at(10), False)
    detail = rows(traffic.engine, AlertRow)[0]["detail"]
    assert "no result from t/0 for 11 min while 100 records wait" in detail
    assert "apart from the false-alarm budget" in detail
    with traffic.engine.begin() as conn:
        conn.execute(update(StreamRow).values(next_offset=130, updated_at=at(23)))
    assert [one.kind for one in alert(traffic, 23)] == ["resolve", "resolve"]
    assert [row["action"] for row in rows(traffic.engine, OutboxRow)] == ["trigger", "trigger", "resolve", "resolve"]


def test_images_of_two_models_in_one_deployment_are_told_once_as_invalid(traffic: Traffic) -> None:
    traffic.minutes(30)
    with traffic.engine.begin() as conn:
        new = save_reference(conn, replace(reference(), name="n-r1", model_name="n", model_id="n@0"))
        ensure_deployment(conn, "d", model_id="n@0", reference_id=new, now=at(0))
    watched = replace(traffic.watched, reference_id=new)
    for minute in (30, 31, 32):
        monitor(traffic.engine, at(minute), alerting=LOUD).run()
    (happened,) = rows(traffic.engine, IncidentEventRow)
    assert (happened["kind"], happened["to_state"]) == ("baseline_invalid", "baseline_invalid")
    assert (
        "800 images since 2026-11-24T00:10Z were scored with reference m-r1 (model m@0) while n-r1" in happened["why"]
    )
    with traffic.engine.begin() as conn:
        ensure_deployment(conn, "d", model_id="x@9", reference_id=new, now=at(33))
    with traffic.engine.connect() as conn:
        mixed = read_snapshot(conn, watched, None, now=at(34)).mixed or ""
    assert mixed.startswith("model x@9 is held against reference n-r1, which was made with n@0")


def test_a_shift_of_another_models_scores_pages_nobody_even_where_it_is_seen_first(traffic: Traffic) -> None:
    with traffic.engine.begin() as conn:
        ensure_deployment(conn, "d", model_id="x@9", reference_id=traffic.reference_id, now=at(0))
    change(traffic, "pooled", "ok", "critical", 1)
    said = alert(traffic, 2)
    assert [(one.kind, one.loud) for one in said] == [("baseline_invalid", True), ("raise", False)]
    assert said[1].why == "odds ×4; told to nobody, as scores cannot be held against their reference now"
    with traffic.engine.begin() as conn:
        ensure_deployment(conn, "d", model_id="m@0", reference_id=traffic.reference_id, now=at(3))
    assert alert(traffic, 3) == []  # no image was scored yet: nobody knows
    healthy(traffic)
    told = [(row["kind"], row["to_state"]) for row in rows(traffic.engine, IncidentEventRow)[2:]]
    assert told == [("resolve", "ok"), ("resolve", "ok"), ("repeat", "critical")]


def test_a_disk_that_fills_up_is_told_with_its_numbers(traffic: Traffic) -> None:
    free = [3 * 2**30]
    full = Alerting(Rules(), CHANNELS, disk=lambda: Disk("/var/lib/oodwatch", free[0], 100 * 2**30))
    alert(traffic, 1, full)
    assert "3.0 GiB (3.0%) are free where /var/lib/oodwatch lies" in rows(traffic.engine, AlertRow)[0]["detail"]
    free[0] *= 3
    assert [one.kind for one in alert(traffic, 2, full)] == ["resolve", "resolve"]


def test_a_channel_hears_from_its_least_state_on(traffic: Traffic) -> None:
    three = Alerting(Rules(), [Channel(name, name) for name in ("shift", "warning", "critical")])
    change(traffic, "pooled", "ok", "shift", 1)
    change(traffic, "pooled", "shift", "warning", 2)
    change(traffic, "pooled", "warning", "critical", 3)
    alert(traffic, 4, three)
    told = Counter(row["channel"] for row in rows(traffic.engine, OutboxRow))
    assert told == {"shift": 3, "warning": 2, "critical": 1}


def test_events_refer_to_the_transition_that_they_follow_from(traffic: Traffic) -> None:
    story(traffic)
    alert(traffic, 20)
    with traffic.engine.connect() as conn:
        joined = conn.execute(
            select(IncidentEventRow.kind, TransitionRow.from_state, IncidentEventRow.from_state, TransitionRow.state)
            .join(TransitionRow, TransitionRow.id == IncidentEventRow.transition_id)
            .where(IncidentEventRow.alert_id.is_not(None))
            .order_by(IncidentEventRow.id)
        ).all()
    assert [(before, after) for _, before, _, after in joined] == [(before, after) for _, before, after in STORY]
    assert all(of_event == of_transition for _, of_transition, of_event, _ in joined)
