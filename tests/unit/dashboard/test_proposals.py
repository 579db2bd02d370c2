from datetime import UTC, datetime, timedelta

from dashboard.proposals import quiet_stretch, times_raised
from dashboard.windows import Window
from pipeline.storage.incident_pages import IncidentLine, TransitionLine

START = datetime(2026, 11, 10, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
STORED = Window(START, START + 72 * HOUR)


def incident(onset: datetime, resolved: datetime | None) -> IncidentLine:
    return IncidentLine(
        1, "shift", "open", None, None, onset, "shift", "shift", False, onset, resolved, ()
    )  # fmt: skip


def change(at: datetime, before: str, after: str, stream: str = "pooled") -> TransitionLine:
    return TransitionLine(stream, at, before, after, 12.0)


def test_the_longest_stretch_without_an_incident_is_proposed_in_whole_hours() -> None:
    minute = timedelta(minutes=1)
    ended = incident(START + 20 * HOUR + 5 * minute, START + 22 * HOUR + 5 * minute)
    assert quiet_stretch(STORED, [ended], []) == Window(START + 23 * HOUR, START + 72 * HOUR)
    still = incident(START + 50 * HOUR, None)
    assert quiet_stretch(STORED, [ended, still], []) == Window(START + 23 * HOUR, START + 50 * HOUR)


def test_what_was_raised_without_an_incident_counts_until_its_stream_is_back() -> None:
    changes = [
        change(START + 10 * HOUR, "ok", "shift"),
        change(START + 30 * HOUR, "shift", "warning"),
        change(START + 32 * HOUR, "warning", "ok"),
        change(START + 60 * HOUR, "ok", "shift", "low"),
    ]
    assert quiet_stretch(STORED, [], changes) == Window(START + 32 * HOUR, START + 60 * HOUR)


def test_where_nothing_is_quiet_all_that_is_stored_is_proposed() -> None:
    assert quiet_stretch(STORED, [incident(START - HOUR, None)], []) == STORED
    assert quiet_stretch(STORED, [], []) == STORED


def test_a_stream_is_raised_when_it_leaves_ok_and_not_when_it_gets_worse() -> None:
    changes = [
        change(START, "ok", "shift"),
        change(START + HOUR, "shift", "critical"),
        change(START + 2 * HOUR, "critical", "ok"),
        change(START + 3 * HOUR, "learning", "ok"),
        change(START + 80 * HOUR, "ok", "shift"),
    ]
    assert times_raised(changes, STORED) == 1
