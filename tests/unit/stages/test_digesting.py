"""A digest is told once a day, by whatever monitors there are, whenever they die."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, time, timedelta

import pytest
from sqlalchemy import insert

from pipeline.alerts.incident import Channel
from pipeline.assembly.handling import list_incidents
from pipeline.settings import load_settings
from pipeline.stages.digesting import tell_digest
from pipeline.storage.alert_schema import IncidentEventRow, IncidentRow, OutboxRow
from pipeline.storage.engine import open_database
from pipeline.storage.schema import DeadLetterRow, StreamGapRow
from tests.alerted import LOUD, change, rows
from tests.faults.test_monitor_crashes import run_killed_again_and_again
from tests.monitored import T0, Traffic, monitor

DAY = timedelta(days=1)
DAILY = replace(LOUD, channels=(*LOUD.channels, Channel("daily", digest=True)), digest=time(8))
EIGHT = T0 + timedelta(hours=8)


@pytest.fixture
def traffic(database_url: str) -> Iterator[Traffic]:
    engine = open_database(database_url)
    traffic = Traffic(engine)
    traffic.minutes(10)
    monitor(engine, T0 + timedelta(minutes=10), alerting=DAILY).run()  # whose first day ends at eight
    yield traffic
    engine.dispose()


def look(traffic: Traffic, now: datetime) -> None:
    monitor(traffic.engine, now, alerting=DAILY).run()


def told(traffic: Traffic) -> list[datetime]:
    """When, of digests alone."""
    return [row["created_at"] for row in rows(traffic.engine, OutboxRow) if row["channel"] == "daily"]


def test_each_day_is_told_once_and_begins_with_the_first_that_ends_under_watch(traffic: Traffic) -> None:
    for now in (EIGHT - timedelta(seconds=1), EIGHT, EIGHT + timedelta(hours=2), EIGHT + DAY + timedelta(minutes=3)):
        for _ in range(3):
            look(traffic, now)
    assert told(traffic) == [EIGHT, EIGHT + DAY + timedelta(minutes=3)]


def test_a_digest_counts_the_day_and_is_no_incident(traffic: Traffic, database_url: str) -> None:
    stream = {"stream_id": traffic.streams[0]}
    change(traffic, "pooled", "ok", "critical", 9)
    with traffic.engine.begin() as conn:
        for offset, at in ((1, T0), (2, EIGHT)):
            letter = {"offset": offset, "reason": "decode", "stage": "s", "error": "e", "at": at}
            conn.execute(insert(DeadLetterRow).values(**stream, **letter))
        gap = {"from_offset": 40, "to_offset": 47, "reason": "expired", "at": T0}
        conn.execute(insert(StreamGapRow).values(**stream, **gap))
    look(traffic, EIGHT + timedelta(hours=1))
    (row,) = [row for row in rows(traffic.engine, OutboxRow) if row["channel"] == "daily"]
    said = row["payload"]["digest"]
    assert (said["scored"], said["dead"], said["lost"]) == (400, 1, 7)
    assert (said["open"], said["raised"], said["resolved"]) == ([1], [1], [])
    assert (row["action"], row["payload"]["transition"]) == ("info", row["event_id"])
    listed = list_incidents(load_settings(database=database_url), everything=True)
    assert [one.incident.kind for one in listed] == ["shift"]
    assert [one["kind"] for one in rows(traffic.engine, IncidentRow)] == ["shift", "digest"]


def test_nobody_is_told_of_a_day_who_did_not_ask(traffic: Traffic) -> None:
    for alerting in (LOUD, replace(LOUD, digest=time(8)), replace(DAILY, digest=None)):
        assert not tell_digest(traffic.engine, traffic.watched, alerting, now=EIGHT)
    assert told(traffic) == []


def test_a_change_of_the_time_tells_no_day_twice(traffic: Traffic) -> None:
    look(traffic, EIGHT)
    for hour in (9, 7):
        changed = replace(DAILY, digest=time(hour))
        monitor(traffic.engine, EIGHT + timedelta(hours=2), alerting=changed).run()
    assert told(traffic) == [EIGHT]


# Who dies closes no cursor.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_monitor_that_dies_at_any_statement_tells_the_day_once(traffic: Traffic) -> None:
    assert run_killed_again_and_again(traffic.engine, lambda: look(traffic, EIGHT)) > 20
    look(traffic, EIGHT)
    assert told(traffic) == [EIGHT]
    assert len(rows(traffic.engine, IncidentEventRow)) == 1


def test_two_monitors_at_once_tell_the_day_once(traffic: Traffic, database_url: str) -> None:
    engines = [open_database(database_url) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda engine: monitor(engine, EIGHT, alerting=DAILY).run(), engines))
    assert told(traffic) == [EIGHT]
    for engine in engines:
        engine.dispose()
