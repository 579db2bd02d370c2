"""Whoever dies and whatever is away: every event is told on every channel, in order, and once by its key."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from pipeline.alerts.notification import Notification
from pipeline.storage.alert_schema import OutboxRow
from pipeline.storage.engine import open_database
from tests.alerted import LOUD, incidents_told, rows, story
from tests.faults.test_monitor_crashes import run_killed_again_and_again
from tests.monitored import MINUTE, T0, Traffic, monitor
from tests.notified import Clock, Spoken, channel, delivering, passing

NOW = T0 + 20 * MINUTE
AWAY = timedelta(minutes=10)


class Tellers:
    """The channels of `LOUD`, heard by receivers that remember; a monitor that judges at a fixed time tells them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.chat, self.pager = Spoken(), Spoken()
        self.clock = Clock(NOW)

    def run(self) -> None:
        """A monitor's life: all that is due. The claims of one that died before have run out."""
        self.clock.now += 2 * MINUTE
        monitor(self.engine, NOW, alerting=LOUD).run()
        delivering(self.engine, self.clock, channel("chat", self.chat), channel("pager", self.pager)).once()

    def meanings(self) -> dict[str, list[tuple[Any, ...]]]:
        """By channel, incident after incident, what each key said, in the order in which they were heard first."""
        found: dict[str, list[tuple[Any, ...]]] = {}
        for name, spoken in (("chat", self.chat), ("pager", self.pager)):
            said: dict[str, Notification] = {}
            for told in spoken.told:
                assert meaning(said.setdefault(told.key, told)) == meaning(told)
            found[name] = [meaning(told) for told in sorted(said.values(), key=lambda told: told.incident_id)]
        return found


def meaning(told: Notification) -> tuple[Any, ...]:
    return told.action, told.text("from"), told.text("to"), told.text("segment")


def stored(engine: Engine) -> dict[str, list[Any]]:
    """All of incidents, and of the outbox what is to be told: when and how often it was tried is another matter."""
    found = incidents_told(engine)
    kept = ("event_id", "incident_id", "channel", "action", "payload")
    return {**found, "outbox": [{name: row[name] for name in kept} for row in found["outbox"]]}


def in_order_for_each_incident(told: list[Notification]) -> bool:
    newest: dict[int, int] = {}
    for one in told:
        if one.event_id < newest.get(one.incident_id, 0):
            return False
        newest[one.incident_id] = one.event_id
    return True


def tellers(url: str) -> Tellers:
    engine = open_database(url)
    traffic = Traffic(engine)
    traffic.minutes(2)
    story(traffic)
    return Tellers(engine)


@pytest.fixture
def undisturbed(tmp_path: Path) -> Iterator[Tellers]:
    made = tellers(f"sqlite:///{tmp_path / 'undisturbed.db'}")
    made.run()
    assert len(made.chat.told) == len(made.meanings()["chat"]) > 3
    yield made
    made.engine.dispose()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # who dies closes no cursor
def test_killed_before_each_statement_in_turn_everybody_hears_what_an_undisturbed_one_says(
    database_url: str, undisturbed: Tellers
) -> None:
    killed = tellers(database_url)
    deaths = run_killed_again_and_again(killed.engine, killed.run)
    killed.run()
    assert deaths > 60
    assert stored(killed.engine) == stored(undisturbed.engine)
    assert killed.meanings() == undisturbed.meanings()
    outbox = rows(killed.engine, OutboxRow)
    assert all(row["delivered_at"] is not None for row in outbox)
    heard = Counter(told.key for told in killed.pager.told) + Counter(told.key for told in killed.chat.told)
    assert heard.total() > len(outbox)  # some died between saying and storing: said again, with the same key
    assert in_order_for_each_incident(killed.chat.told)
    killed.engine.dispose()


@contextmanager
def away(engine: Engine) -> Iterator[None]:
    """The database answers nothing."""

    def refuse(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        raise OperationalError(statement, {}, Exception("the server is away"))

    event.listen(engine, "before_cursor_execute", refuse)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", refuse)


def test_after_ten_minutes_without_database_and_channels_everything_arrives_in_order_and_once(
    database_url: str, undisturbed: Tellers
) -> None:
    late = tellers(database_url)
    asked = 0
    ends: datetime = NOW + AWAY
    for _ in range(2):  # every channel is away
        late.chat.failures, late.pager.failures = [passing()] * 9, [passing()] * 9
        late.run()
        asked += len(late.chat.told) + len(late.pager.told)
        late.chat.told.clear()
        late.pager.told.clear()
    late.chat.failures, late.pager.failures = [], []
    while late.clock.now < ends:
        with away(late.engine), pytest.raises(OperationalError):
            late.run()
    assert late.chat.told == late.pager.told == []
    assert asked >= 2
    for _ in range(len(undisturbed.chat.told)):
        late.run()
    assert stored(late.engine) == stored(undisturbed.engine)
    assert late.meanings() == undisturbed.meanings()
    for spoken in (late.chat, late.pager):
        assert in_order_for_each_incident(spoken.told)
        assert max(Counter(told.key for told in spoken.told).values()) == 1
    assert all(row["given_up_at"] is None for row in rows(late.engine, OutboxRow))
    late.engine.dispose()
