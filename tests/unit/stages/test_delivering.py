import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from pipeline.alerts.delivery import Undelivered
from pipeline.alerts.notification import Notification
from pipeline.alerts.standing import KEPT_UP, Standing
from pipeline.stages.flow import Progress
from pipeline.stages.retry import Retry
from pipeline.stages.upkeep import Deadman
from pipeline.storage.engine import open_database
from tests.notified import MINUTE, T0, Clock, Spoken, Story, channel, delivering, passing
from tests.services.processes import wait_until

SECOND = timedelta(seconds=1)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    yield Story(engine)
    engine.dispose()


@dataclass
class Held:
    """A sender whose answer waits for a person."""

    told: list[int] = field(default_factory=list)
    answer: threading.Event = field(default_factory=threading.Event)

    def send(self, notification: Notification) -> None:
        self.told.append(notification.event_id)
        self.answer.wait()


@dataclass
class Board:
    """A renewer that remembers."""

    told: list[tuple[list[int], datetime, timedelta | None]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def renew(self, standing: Sequence[Standing], now: datetime, keep: timedelta | None = KEPT_UP) -> None:
        self.told.append(([incident.incident_id for incident in standing], now, keep))
        if self.failures:
            raise self.failures.pop(0)


def test_what_is_due_is_told_in_order_on_every_channel_and_marked(story: Story) -> None:
    one, other = Spoken(), Spoken()
    incident = story.incident()
    events = [story.event(incident, "a", "b", at=T0 + i * SECOND) for i in range(5)]
    telling = delivering(story.engine, Clock(T0 + MINUTE), channel("a", one), channel("b", other))
    telling.once()
    assert [told.event_id for told in one.told] == [told.event_id for told in other.told] == events
    assert {row.delivered_at for row in story.outbox()} == {T0 + MINUTE}
    assert telling.told.outcomes == {("a", "delivered"): 5, ("b", "delivered"): 5}
    assert telling.told.waiting == {"a": 0, "b": 0}
    telling.once()
    assert len(one.told) == 5


def test_a_failure_waits_for_its_time_holds_its_incident_and_no_other(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    spoken, clock = Spoken(failures=[passing(), Undelivered("busy", wait=5 * MINUTE)]), Clock()
    one, other = story.incident(), story.incident(kind="health")
    first, second, third = story.event(one, "a"), story.event(one, "a"), story.event(other, "a")
    telling = delivering(story.engine, clock, channel("a", spoken))
    telling.once()
    assert [told.event_id for told in spoken.told] == [first, third]
    rows = story.outbox()
    assert [row.next_try_at - T0 for row in rows] == [5 * SECOND, timedelta(0), 5 * MINUTE]
    assert [row.last_error for row in rows] == ["answered 503 Service Unavailable", None, "busy"]
    assert telling.told.waiting == {"a": 3}
    assert "notification 1 of incident 1 was not delivered: nowhere: answered 503" in caplog.text
    assert "next attempt in 5 s" in caplog.text
    clock.now += 5 * SECOND
    telling.once()
    assert [told.event_id for told in spoken.told] == [first, third, first, second]
    clock.now += 5 * MINUTE
    telling.once()
    assert [told.event_id for told in spoken.told] == [first, third, first, second, third]
    assert spoken.told[0].key == spoken.told[2].key


def test_what_no_repetition_would_mend_and_what_has_failed_for_a_day_is_given_up(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    refused, broken, clock = Spoken(failures=[Undelivered("answered 404", final=True)]), Spoken(), Clock()
    broken.failures = [passing() for _ in range(10_000)]
    story.event(story.incident(), "a", "b")
    telling = delivering(story.engine, clock, channel("a", refused), channel("b", broken))
    telling.once()
    assert story.outbox()[0].given_up_at == T0
    while story.outbox()[1].given_up_at is None:
        clock.now = story.outbox()[1].next_try_at
        telling.once()
    row = story.outbox()[1]
    assert row.given_up_at == T0 + timedelta(days=1)
    assert row.attempts == len(broken.told) == 8 + 95 + 1  # after 5, 10, ... 640 s; each quarter of an hour; at the end
    assert len(refused.told) == 1
    assert telling.told.outcomes["a", "given_up"] == telling.told.outcomes["b", "given_up"] == 1
    assert caplog.text.count("given up") == 2


def test_whatever_a_sender_raises_is_a_failure_said_in_one_line_without_secrets(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    story.event(story.incident(), "a")
    odd = Spoken(failures=[ZeroDivisionError("at https://x/s3cr3t\n\x1b[31mline two")])
    delivering(story.engine, Clock(), channel("a", odd, secret="s3cr3t")).once()
    (row,) = story.outbox()
    assert row.last_error == "ZeroDivisionError: at https://x/*** (31mline two".replace("(", "[")
    assert "s3cr3t" not in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_a_channel_that_hangs_holds_no_other_and_not_the_end(story: Story) -> None:
    held, quick, stop = Held(), Spoken(), threading.Event()
    incident = story.incident()
    first = story.event(incident, "slow", "quick")
    telling = delivering(story.engine, Clock(), channel("slow", held), channel("quick", quick))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(telling.run, stop, grace_s=0.3)
        wait_until(lambda: held.told == [first] and len(quick.told) == 1, "the first")
        second = story.event(incident, "slow", "quick")
        telling.nudge()
        wait_until(lambda: [told.event_id for told in quick.told] == [first, second], "the second")
        stop.set()
        telling.nudge()
        running.result(60)
    assert held.told == [first]
    rows = [row for row in story.outbox() if row.channel == "slow"]
    assert [(row.attempts, row.delivered_at) for row in rows] == [(1, None), (0, None)]
    assert rows[0].next_try_at == T0 + MINUTE  # until then nobody tries the same
    held.answer.set()


def test_an_attempt_that_ends_while_stopping_is_still_stored(story: Story) -> None:
    held, stop = Held(), threading.Event()
    story.event(story.incident(), "a")
    telling = delivering(story.engine, Clock(), channel("a", held))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(telling.run, stop, grace_s=60)
        wait_until(lambda: len(held.told) == 1, "the attempt")
        stop.set()
        telling.nudge()
        held.answer.set()
        running.result(60)
    assert story.outbox()[0].delivered_at == T0


def test_an_attempt_that_was_cut_off_is_repeated_with_its_key_when_its_claim_has_run_out(story: Story) -> None:
    held, stop, clock = Held(), threading.Event(), Clock()
    stop.set()
    story.event(story.incident(), "a")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(delivering(story.engine, clock, channel("a", held)).once)
        wait_until(lambda: len(held.told) == 1, "the attempt")
        spoken = Spoken()
        after = delivering(story.engine, clock, channel("a", spoken))
        after.once()
        assert spoken.told == []
        clock.now += MINUTE
        after.once()
        assert [told.event_id for told in spoken.told] == held.told
        held.answer.set()
    (row,) = story.outbox()
    assert (row.attempts, row.delivered_at) == (2, T0 + MINUTE)


def test_two_monitors_at_once_tell_everything_once(database_url: str) -> None:
    engine = open_database(database_url)
    story, spoken = Story(engine), Spoken()
    events = [story.event(story.incident(kind=f"k{i % 5}{i}"), "a", "b") for i in range(20)]
    with ThreadPoolExecutor(2) as pool:
        tellings = [delivering(engine, Clock(), channel("a", spoken), channel("b", spoken)) for _ in range(2)]
        for done in [pool.submit(telling.once) for telling in tellings]:
            done.result(120)
    assert sorted(told.event_id for told in spoken.told) == sorted(events * 2)
    engine.dispose()


def breaking(engine: Engine) -> list[bool]:
    """A switch: while its last value is true, no statement on the engine succeeds."""
    broken = [False]

    def refuse(_conn: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if broken[-1]:
            raise OperationalError(statement, {}, Exception("the server has gone"))

    event.listen(engine, "before_cursor_execute", refuse)
    return broken


def test_an_outcome_that_cannot_be_stored_is_kept_until_the_database_is_back(story: Story) -> None:
    held, stop, broken = Held(), threading.Event(), breaking(story.engine)
    retry = Retry(story.engine.url, stop, progress=Progress(), jitter=lambda: 0.0)
    story.event(story.incident(), "a")
    telling = delivering(story.engine, Clock(), channel("a", held), retry=retry)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(telling.run, stop, grace_s=5)
        wait_until(lambda: len(held.told) == 1, "the attempt")
        broken.append(True)
        held.answer.set()
        wait_until(lambda: telling.told.outcomes["a", "delivered"] == 1 and telling.told.waiting == {}, "its end")
        broken.append(False)
        telling.nudge()
        wait_until(lambda: story.outbox()[0].delivered_at == T0, "the outcome")
        stop.set()
        telling.nudge()
        running.result(60)
    assert len(held.told) == 1


def test_what_no_waiting_mends_ends_the_thread_with_the_reason(story: Story) -> None:
    with story.engine.begin() as conn:
        conn.execute(text("DROP TABLE outbox"))
    retry = Retry(story.engine.url, threading.Event(), progress=Progress())
    telling = delivering(story.engine, Clock(), channel("a", Spoken()), retry=retry)
    with pytest.raises(Exception, match="no such table"):
        telling.run(threading.Event(), grace_s=1)


def test_what_stands_is_renewed_while_it_is_open_and_for_five_minutes_after(story: Story) -> None:
    board, clock = Board(), Clock()
    incident = story.incident()
    telling = delivering(story.engine, clock, channel("am", board))
    telling.once()
    assert board.told == []
    story.event(incident, "am")
    telling.once()
    assert board.told == [([incident], T0, None)]  # the notification itself
    for _ in range(3):
        clock.now += MINUTE
        telling.once()
    assert board.told[1:] == [([incident], T0 + i * MINUTE, KEPT_UP) for i in (1, 2, 3)]
    clock.now += MINUTE / 2
    telling.once()
    assert len(board.told) == 4
    story.event(incident, "am", action="resolve", at=clock.now)
    ended = clock.now
    while clock.now < ended + 10 * MINUTE:
        telling.once()
        clock.now += MINUTE / 2
    assert [now - ended for _, now, _ in board.told[4:]] == [
        timedelta(0), *(i * MINUTE + MINUTE / 2 for i in range(5))
    ]  # fmt: skip
    assert telling.told.renewals == {("am", "ok"): 8}
    assert telling.told.outcomes == {("am", "delivered"): 2}


def test_what_stands_is_renewed_while_the_database_is_away_and_trouble_is_said_once(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    board, clock, broken, stop = Board(), Clock(), breaking(story.engine), threading.Event()
    stop.set()  # its retry does not wait
    incident = story.incident()
    story.event(incident, "am")
    retry = Retry(story.engine.url, stop, progress=Progress())
    telling = delivering(story.engine, clock, channel("am", board), retry=retry)
    telling.once()
    clock.now += MINUTE
    telling.once()
    broken.append(True)
    board.failures = [passing(), passing()]
    for _ in range(4):
        clock.now += MINUTE
        telling.once()
    assert [told[0] for told in board.told] == [[incident]] * (1 + 2 + 4)
    assert telling.told.waiting == {}
    assert telling.told.renewals == {("am", "ok"): 4, ("am", "failed"): 2}
    assert caplog.text.count("was not renewed") == 1
    assert caplog.text.count("answers again") == 1


def test_a_ping_says_that_runs_succeed_and_stops_when_they_do_not(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    clock, runs, pings = Clock(), [0], list[datetime]()
    failures = [Undelivered("answered 500 of s3cr3t")]

    def ping() -> None:
        pings.append(clock.now)
        if len(pings) == 3:
            raise failures.pop()

    deadman = Deadman(MINUTE, ping, lambda said: said.replace("s3cr3t", "***"))
    telling = delivering(story.engine, clock, deadman=deadman, succeeded=lambda: runs[0] if runs[0] != 99 else None)
    telling.once()
    assert pings == []
    for _ in range(12):  # every 10 s a run, for 2 min
        runs[0] += 1
        telling.once()
        clock.now += 10 * SECOND
    assert pings == [T0, T0 + MINUTE]
    runs[0] = 99  # now another monitor leads
    telling.once()
    assert len(pings) == 2
    runs[0] = 13
    telling.once()
    assert pings[2:] == [T0 + 2 * MINUTE]
    clock.now += 10 * MINUTE  # no run ended well
    telling.once()
    assert len(pings) == 3
    assert telling.told.pings == {"ok": 2, "failed": 1}
    assert "deadman: the ping was not taken: answered 500 of ***" in caplog.text


def test_only_its_own_deployment_is_told_where_one_is_named(story: Story) -> None:
    spoken = Spoken()
    story.event(story.incident(), "a")
    delivering(story.engine, Clock(), channel("a", spoken), deployment="other").once()
    assert spoken.told == []
    delivering(story.engine, Clock(), channel("a", spoken), deployment="d").once()
    assert len(spoken.told) == 1


def test_what_waits_for_a_channel_that_nobody_knows_is_given_up_after_a_day(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    story.event(story.incident(), "gone")
    telling = delivering(story.engine, clock := Clock(T0 + timedelta(days=1)), channel("a", Spoken()))
    telling.once()
    assert telling.told.waiting == {"a": 0, "gone": 1}
    clock.now += SECOND
    telling.once()
    assert story.outbox()[0].last_error == "no channel of this name is in the settings"
    assert caplog.text.count("1 notifications are given up") == 1
