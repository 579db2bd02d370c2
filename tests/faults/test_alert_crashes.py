"""Whatever happens to monitors, every transition is taken in once, and every event is to be told once on a channel."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pipeline.alerts.acts import Act
from pipeline.assembly.handling import decide
from pipeline.settings import load_settings
from pipeline.storage.alert_schema import IncidentEventRow, OutboxRow
from pipeline.storage.engine import open_database
from tests.alerted import LOUD, STORY, at, change, incidents_told, rows, story
from tests.faults.taking_in import run
from tests.faults.test_monitor_crashes import run_killed_again_and_again
from tests.monitored import MINUTE, T0, Traffic, monitor

TIMES = 8
KILLS = 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # who dies closes no cursor
def test_killed_before_each_statement_in_turn_it_tells_what_an_undisturbed_one_does(
    database_url: str, tmp_path: Path
) -> None:
    found = []
    for url, disturbed in ((f"sqlite:///{tmp_path / 'undisturbed.db'}", False), (database_url, True)):
        engine = open_database(url)
        traffic = Traffic(engine)
        traffic.minutes(2)
        story(traffic)

        def watch(traffic: Traffic = traffic) -> None:
            monitor(traffic.engine, T0 + 20 * MINUTE, alerting=LOUD).run()

        deaths = run_killed_again_and_again(engine, watch) if disturbed else 0
        watch()
        assert (deaths > 40) == disturbed
        found.append(incidents_told(engine))
        engine.dispose()
    assert found[0] == found[1]
    assert len(found[0]["incident_event"]) == 14


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_that_a_silence_ends_soon_is_told_once_however_often_the_monitor_dies(database_url: str) -> None:
    engine = open_database(database_url)
    traffic = Traffic(engine)
    change(traffic, "pooled", "ok", "critical", 1)
    monitor(engine, at(2), alerting=LOUD).run()
    decide(load_settings(database=database_url), 1, Act("silence", "ann", "known", at(63)), clock=lambda: at(3))

    def watch() -> None:
        monitor(engine, at(50), alerting=LOUD).run()

    assert run_killed_again_and_again(engine, watch) > 20
    watch()
    assert [row["kind"] for row in rows(engine, IncidentEventRow)] == ["raise", "silence", "ends_soon"]
    told = [(row["channel"], row["action"]) for row in rows(engine, OutboxRow)[2:]]
    assert told == [("pager", "info")]
    engine.dispose()


def test_killed_by_the_system_at_any_moment_it_tells_what_an_undisturbed_one_does(
    database_url: str, tmp_path: Path
) -> None:
    undisturbed = f"sqlite:///{tmp_path / 'undisturbed.db'}"
    for url in (undisturbed, database_url):
        traffic = Traffic(open_database(url))
        for time in range(TIMES):
            story(traffic, 20 * time)
        traffic.engine.dispose()
    run(undisturbed)
    chance = random.Random(7)
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.taking_in", database_url], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(chance.randint(1, 4)):
            child.stdout.readline()
        child.kill()  # at whatever it does next
        child.communicate()
    engine = open_database(database_url)
    assert 0 < len({row["transition_id"] for row in rows(engine, IncidentEventRow)}) < TIMES * len(STORY)
    run(database_url)
    told, before = incidents_told(engine), open_database(undisturbed)
    assert told == incidents_told(before)
    taken = Counter(row["transition_id"] for row in rows(engine, IncidentEventRow) if row["alert_id"] is not None)
    assert (len(taken), set(taken.values())) == (TIMES * len(STORY), {1})
    pairs = [(row["event_id"], row["channel"]) for row in rows(engine, OutboxRow)]
    assert len(pairs) == len(set(pairs)) > TIMES
    engine.dispose()
    before.dispose()
