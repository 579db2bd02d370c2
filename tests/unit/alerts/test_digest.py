"""A day in one message: what it says, that it stays short, and when it is due."""

from dataclasses import replace
from datetime import datetime, time, timedelta

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from pipeline.alerts.digest import Digest, lines, newest_due, payload, title
from pipeline.alerts.incident import Incident
from pipeline.alerts.letter import body
from pipeline.alerts.letter import title as letter_title
from pipeline.alerts.notification import Notification
from tests.unit.alerts.scenes import T0, minute
from tests.unit.alerts.test_webhook_schema import SCHEMA
from tests.unit.alerts.told import alert, incident

UNTIL = T0 + timedelta(hours=8)
NOW = UNTIL + timedelta(seconds=7)


def one(
    key: int, state: str = "critical", *, raised: float = 0, ended: float | None = None, **more: object
) -> Incident:
    at = None if ended is None else minute(ended)
    of = alert(peak=state, state=state, onset=minute(raised), raised_at=minute(raised), resolved_at=at)
    known = {"id": key, "state": state, "peak": state, "onset": minute(raised), "resolved_at": at}
    return incident(of, **{**known, **more})


def digest(*incidents: Incident, **more: object) -> Digest:
    values: dict[str, object] = {
        "deployment": "gates",
        "model": "gates@abc",
        "reference": "gates-r1",
        "until": UNTIL,
        "incidents": incidents,
        "images": 2_345_678,
        "flagged": 49_259,
        "normal": 0.02,
        "dead": {"decode": 9, "too_large": 3},
        "lost": 40,
        "waiting": 34,
    }
    return Digest(**{**values, **more})  # type: ignore[arg-type]


def test_a_digest_says_what_is_open_what_came_and_went_and_whether_all_was_seen() -> None:
    told = digest(
        one(3, "warning", raised=-3000),
        one(5, raised=100, handling="acknowledged", handled_by="ann"),
        one(6, "warning", raised=200, ended=260),
        one(7, raised=10, provisional=True),
    )
    assert title(told) == "DIGEST gates · the day until 2026-11-24 08:00Z: 2 open, 2 raised and 1 resolved"
    assert lines(told) == [
        "2,345,678 images, 2.10% unusual, normally 2.00%",
        "99.998% of the records scored, 12 dead letters (9 decode, 3 too_large), 40 never read, 34 wait now",
        "open now: 2; raised in the day: 2",
        "- 5: critical since 2026-11-24 01:40Z, fraction of east, acknowledged by ann",
        "- 3: warning since 2026-11-21 22:00Z, fraction of east, open",
        "resolved: 1",
        "- 6: warning from 2026-11-24 03:20Z to 2026-11-24 04:20Z, fraction of east",
        "provisional, told to nobody: 1; until normal traffic is known, see `oodwatch baseline accept`",
    ]


def test_a_quiet_day_is_four_lines() -> None:
    assert lines(digest(dead={}, lost=0, waiting=0, images=10, flagged=0)) == [
        "10 images, 0.00% unusual, normally 2.00%",
        "100.000% of the records scored, no dead letter, 0 never read, 0 wait now",
        "open now: 0; raised in the day: 0",
        "resolved: 0",
    ]
    assert lines(digest(dead={}, lost=0, waiting=0, images=0, flagged=0))[:2] == [
        "no image",
        "no dead letter, 0 never read, 0 wait now",
    ]


def test_however_much_happened_it_is_fifteen_short_lines() -> None:
    long = "<b>" + 1000 * "x"
    many = [one(key, raised=key, handled_by=long) for key in range(30)]
    over = [one(key, raised=key, ended=key + 100) for key in range(100, 130)]
    told = digest(*many, *over, one(200, provisional=True), dead={long: 5, "decode": 1})
    said = payload(told, 9, NOW)
    text = body(Notification(1, 9, "info", said, NOW)).splitlines()
    assert (len(text), max(map(len, text))) == (15, 200)
    assert "and 25 more: 'oodwatch alerts --all'" in text[8]
    assert "<" not in "".join(text)
    assert (said["digest"]["open"], len(said["digest"]["resolved"])) == ([*range(30)], 30)


def test_only_what_happened_in_the_day_is_counted_for_it() -> None:
    before, after = one(1, raised=-961, ended=-960.1), one(2, raised=480)
    at_its_ends = one(3, raised=-960, ended=479)
    told = digest(before, after, at_its_ends)
    assert [each.id for each in told.raised] == [3]
    assert [each.id for each in told.ended] == [3]
    assert [each.id for each in told.open] == [2]


def test_the_payload_is_of_the_schema_and_leads_a_letter_with_the_digest_s_title() -> None:
    told = digest(one(5))
    said = {**payload(told, 9, NOW), "transition": 4, "action": "info"}
    Draft202012Validator(SCHEMA).validate(said)
    assert (said["value"], said["n"], said["incident"]) == (49_259 / 2_345_678, 2_345_678, 9)
    assert letter_title(Notification(4, 9, "info", said, NOW)) == title(told)
    assert payload(replace(told, images=0), 9, NOW)["value"] is None


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (datetime.fromisoformat("2026-11-24T07:59:59+00:00"), "2026-11-23T08:00:00+00:00"),
        (datetime.fromisoformat("2026-11-24T08:00:00+00:00"), "2026-11-24T08:00:00+00:00"),
        (datetime.fromisoformat("2026-11-24T23:59:00+00:00"), "2026-11-24T08:00:00+00:00"),
    ],
)
def test_the_newest_digest_was_due_at_its_time_today_or_yesterday(now: datetime, due: str) -> None:
    assert newest_due(time(8), now) == datetime.fromisoformat(due)
