from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from pipeline.storage import outbox
from pipeline.storage.engine import open_database
from pipeline.storage.retention import RetentionLimits, delete_expired
from tests.notified import MINUTE, T0, Story

LATER = T0 + timedelta(hours=1)


@pytest.fixture
def story(database_url: str) -> Iterator[Story]:
    engine = open_database(database_url)
    yield Story(engine)
    engine.dispose()


def turns(story: Story, *channels: str, **more: str) -> list[tuple[str, int]]:
    with story.engine.connect() as conn:
        found = outbox.due(conn, channels, now=LATER, deployment=more.get("deployment"))
    return [(turn.channel, turn.notification.event_id) for turn in found]


def begin(story: Story, channel: str, *, until_min: float = 61) -> outbox.Due:
    """Claim the turn of a channel."""
    with story.engine.begin() as conn:
        (turn,) = outbox.due(conn, [channel], now=LATER)
        assert outbox.claim(conn, turn, until=T0 + until_min * MINUTE)
    return turn


def test_a_later_event_of_an_incident_never_overtakes_an_earlier_one_and_other_incidents_do(story: Story) -> None:
    one, other = story.incident(), story.incident(kind="health")
    first, second = (story.event(one, "a", "b", at=T0 + i * MINUTE) for i in range(2))
    third = story.event(other, "a", at=T0 + 2 * MINUTE)
    assert turns(story, "a", "b") == [("a", first), ("b", first)]
    begin(story, "a")
    assert turns(story, "a", "b") == [("b", first), ("a", third)]
    turn = begin(story, "a")
    with story.engine.begin() as conn:
        outbox.delivered(conn, turn.id, at=LATER)
    assert turns(story, "a") == []
    with story.engine.begin() as conn:
        outbox.failed(conn, 1, attempts=1, error="x", given_up_at=LATER)
    assert turns(story, "a") == [("a", second)]


def test_of_what_is_due_that_which_has_waited_longest_comes_first(story: Story) -> None:
    one, other = story.incident(), story.incident(kind="health")
    late, early = story.event(one, "a", at=T0 + MINUTE), story.event(other, "a", at=T0)
    assert turns(story, "a") == [("a", early)]
    with story.engine.begin() as conn:
        outbox.failed(conn, 2, attempts=0, error="x", next_try_at=T0 + 2 * MINUTE)
    assert turns(story, "a") == [("a", late)]


def test_one_of_two_that_saw_the_same_turn_gets_it(story: Story) -> None:
    story.event(story.incident(), "a")
    with story.engine.begin() as conn:
        (turn,) = outbox.due(conn, ["a"], now=LATER)
        assert outbox.claim(conn, turn, until=LATER + MINUTE)
        assert not outbox.claim(conn, turn, until=LATER + MINUTE)
    assert turns(story, "a") == []
    (row,) = story.outbox()
    assert (row.attempts, row.next_try_at) == (1, LATER + MINUTE)


def test_the_outcome_of_an_attempt_that_was_overtaken_changes_nothing_but_a_delivery_counts(story: Story) -> None:
    story.event(story.incident(), "a")
    lost = begin(story, "a", until_min=30)  # its claim has run out
    begin(story, "a")
    with story.engine.begin() as conn:
        outbox.failed(conn, lost.id, attempts=1, error="late", next_try_at=LATER)
        outbox.failed(conn, lost.id, attempts=1, error="late", given_up_at=LATER)
    (row,) = story.outbox()
    assert (row.attempts, row.last_error, row.given_up_at) == (2, None, None)
    with story.engine.begin() as conn:
        outbox.failed(conn, lost.id, attempts=2, error="no" * 600, given_up_at=LATER)
        outbox.delivered(conn, lost.id, at=LATER)
        outbox.delivered(conn, lost.id, at=LATER + MINUTE)
    (row,) = story.outbox()
    assert (row.delivered_at, row.given_up_at, row.last_error) == (LATER, None, None)


def test_an_event_is_told_once_on_each_channel_in_one_transaction_and_holds_only_json(story: Story) -> None:
    story.event(story.incident(), "a", "b", "a", value=float("nan"), cause=[{"kind": "x", "p": float("inf")}])
    rows = story.outbox()
    assert [row.channel for row in rows] == ["a", "b"]
    assert rows[0].payload["value"] is None
    assert rows[0].payload["cause"] == [{"kind": "x", "p": None}]
    story.event(1)
    assert len(story.outbox()) == 2


def test_what_waits_for_unknown_channels_is_given_up_after_its_time(story: Story) -> None:
    incident = story.incident()
    for channel, at in (("known", T0), ("gone", T0), ("gone", T0 + MINUTE)):
        story.event(incident, channel, at=at)
    with story.engine.begin() as conn:
        assert outbox.give_up_unknown(conn, ["known"], before=T0 + MINUTE, at=LATER, deployment="other") == 0
        assert outbox.give_up_unknown(conn, ["known"], before=T0 + MINUTE, at=LATER, deployment="d") == 1
        assert outbox.waiting(conn) == {"known": outbox.Waiting(1, T0), "gone": outbox.Waiting(1, T0 + MINUTE)}


def test_a_deployment_can_be_looked_at_alone(story: Story) -> None:
    event = story.event(story.incident(), "a")
    assert turns(story, "a", deployment="d") == [("a", event)]
    assert turns(story, "a", deployment="other") == []
    begin(story, "a")
    with story.engine.connect() as conn:
        assert outbox.waiting(conn, "other") == {}
        assert outbox.standing(conn, "a", ended_after=T0, deployment="other") == []
        assert len(outbox.standing(conn, "a", ended_after=T0, deployment="d")) == 1


def test_what_stands_is_what_was_told_of_incidents_that_are_open_or_ended_lately(story: Story) -> None:
    one, other, unheard = story.incident(), story.incident(kind="health"), story.incident(kind="third")
    story.event(one, "a")
    begin(story, "a")
    story.event(one, "a", at=T0 + MINUTE)
    story.event(other, "a", "b")
    begin(story, "a")
    story.event(other, action="resolve", at=T0 + 5 * MINUTE)
    story.event(unheard, "b")
    with story.engine.connect() as conn:
        found = outbox.standing(conn, "a", ended_after=T0)
        assert [(incident.incident_id, incident.resolved_at) for incident in found] == [
            (one, None),
            (other, T0 + 5 * MINUTE),
        ]
        assert [len(incident.told) for incident in found] == [1, 1]
        assert [s.incident_id for s in outbox.standing(conn, "a", ended_after=T0 + 6 * MINUTE)] == [one]
        assert [s.incident_id for s in outbox.standing(conn, "a", ended_after=None, incident_id=other)] == [other]


def test_the_state_of_a_channel_counts_what_became_of_everything(story: Story) -> None:
    incident = story.incident()
    for minute in range(4):
        story.event(incident, "a", at=T0 + minute * MINUTE)
    story.event(incident, "b")
    first = begin(story, "a")
    with story.engine.begin() as conn:
        outbox.delivered(conn, first.id, at=LATER)
    second = begin(story, "a")
    with story.engine.begin() as conn:
        outbox.failed(conn, second.id, attempts=1, error="refused", given_up_at=LATER)
        found = outbox.channel_states(conn)
    assert found == [
        outbox.ChannelState("a", 2, 1, 1, T0 + 2 * MINUTE, LATER, "refused"),
        outbox.ChannelState("b", 1, 0, 0, T0, None, None),
    ]


def test_an_engine_without_notifications_has_no_turns(database_url: str) -> None:
    engine: Engine = open_database(database_url)
    with engine.connect() as conn:
        assert outbox.due(conn, ["a"], now=LATER) == []
        assert outbox.due(conn, [], now=LATER) == []
        assert outbox.channel_states(conn) == []
    engine.dispose()


def test_what_was_told_of_an_incident_that_is_long_over_goes_and_what_waits_or_stands_stays(story: Story) -> None:
    over, standing = story.incident(), story.incident(kind="health")
    story.event(over, "told", "given up", "waiting", action="resolve")
    story.event(standing, "told")
    with story.engine.begin() as conn:
        for row in (1, 4):
            outbox.delivered(conn, row, at=T0)
        outbox.failed(conn, 2, attempts=0, error="x", given_up_at=T0)
        limits = RetentionLimits(keep=timedelta(days=1))
        assert delete_expired(conn, limits, now=T0 + timedelta(days=1)) == 0
        assert delete_expired(conn, limits, now=LATER + timedelta(days=1)) == 2
    assert [(row.incident_id, row.channel) for row in story.outbox()] == [(over, "waiting"), (standing, "told")]
