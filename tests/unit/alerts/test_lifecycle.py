"""Evidence, people and time: what becomes of incidents, and what is told."""

from dataclasses import replace

import pytest

from pipeline.alerts.evidence import key_of, stream_of
from pipeline.alerts.incident import action_of, severity
from pipeline.alerts.lifecycle import Rules
from pipeline.errors import RefusedError, UsageError
from tests.unit.alerts.scenes import NORTH, SOUTH, Scene, minute

HISTOGRAM = ("histogram", "")
NO_IMAGES = ("silence", "")
DAY = 1440


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_raise_opens_one_incident_and_its_end_ends_it_and_both_are_told(scene: Scene) -> None:
    scene.see(NORTH, "warning", 10, onset=minute(3), share=0.12, low=0.08, high=0.2, k=12.0, n=100.0, detail="odds ×4")
    opened = scene.incident
    assert (opened.state, opened.peak, opened.handling, opened.onset) == ("warning", "warning", "open", minute(3))
    assert opened.alerts[0].share == 0.12
    scene.see(NORTH, "ok", 60)
    assert scene.incident.resolved_at == minute(60)
    assert (scene.incident.state, scene.incident.handling, scene.incident.peak) == ("ok", "resolved", "warning")
    assert scene.kinds == ["raise", "resolve", "resolve"]
    assert [event.alert for event in scene.events] == [NORTH, NORTH, None]
    assert scene.told == [("raise", "warning"), ("resolve", "ok")]


def test_alerts_that_overlap_are_one_incident_that_lasts_until_all_are_ok(scene: Scene) -> None:
    scene.see(NORTH, "critical", 10, onset=minute(8))
    scene.see(SOUTH, "shift", 20, onset=minute(2))
    scene.see(HISTOGRAM, "shift", 25)
    scene.see(NORTH, "ok", 30)
    assert len(scene.book.incidents) == 1
    assert (scene.incident.state, scene.incident.peak, scene.incident.onset) == ("shift", "critical", minute(2))
    scene.see(SOUTH, "ok", 31)
    assert scene.incident.resolved_at is None
    scene.see(HISTOGRAM, "ok", 32)
    assert scene.incident.resolved_at == minute(32)


def test_a_rise_and_a_new_segment_are_told_and_nothing_else_of_the_same_incident(scene: Scene) -> None:
    scene.see(NORTH, "shift", 1)
    scene.see(NORTH, "warning", 2)
    scene.see(("histogram", "north"), "shift", 3)  # the same place, and not worse
    scene.see(NORTH, "critical", 4)
    scene.see(SOUTH, "shift", 5)
    scene.see(NORTH, "warning", 6)
    scene.see(NORTH, "critical", 7)  # told before
    scene.wait(8)
    assert scene.told == [("raise", "shift"), ("escalate", "warning"), ("escalate", "critical"), ("raise", "shift")]
    assert scene.heard_by("chat") == ["raise", "escalate", "escalate", "raise"]
    assert scene.heard_by("mail") == ["escalate", "escalate"]
    assert scene.heard_by("pager") == ["escalate"]


def test_looking_again_and_again_tells_nothing(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    for at in range(2, 1000):
        scene.wait(at)
    assert scene.told == [("raise", "warning")]


def test_what_is_back_within_a_day_goes_on_and_is_told_only_where_it_is_worse_than_ever(scene: Scene) -> None:
    scene.see(NORTH, "shift", 1)
    scene.see(NORTH, "ok", 10)
    for day in range(6):  # normal traffic between two levels comes and goes
        scene.see(NORTH, "shift", 100 + 200 * day)
        scene.see(NORTH, "ok", 200 + 200 * day)
    assert len(scene.book.incidents) == 1
    assert scene.told == [("raise", "shift"), ("resolve", "ok")]
    assert scene.kinds.count("reopen") == 6
    scene.see(NORTH, "warning", 1300)
    scene.see(NORTH, "ok", 1400)
    assert scene.told[2:] == [("reopen", "warning"), ("resolve", "ok")]


def test_what_is_back_after_a_day_is_a_new_incident(scene: Scene) -> None:
    scene.see(NORTH, "shift", 1)
    scene.see(NORTH, "ok", 10)
    scene.see(NORTH, "shift", 10 + DAY)
    assert len(scene.book.incidents) == 1
    scene.see(NORTH, "ok", 1500)
    scene.see(NORTH, "shift", 1501 + DAY)
    assert len(scene.book.incidents) == 2
    assert scene.kinds[-1] == "raise"


def test_a_critical_that_is_back_is_told_after_the_time_of_a_repeat_at_the_latest(scene: Scene) -> None:
    scene.see(NORTH, "critical", 0)
    scene.see(NORTH, "ok", 10)
    scene.see(NORTH, "critical", 600)
    scene.wait(839)
    assert scene.told == [("raise", "critical"), ("resolve", "ok")]
    scene.wait(840)
    assert scene.told[2:] == [("repeat", "critical")]


def test_what_is_back_while_another_incident_is_open_joins_it(scene: Scene) -> None:
    scene.see(NORTH, "shift", 1)
    scene.see(NORTH, "ok", 2)
    scene.see(SOUTH, "shift", 3)
    scene.see(NORTH, "shift", 4)
    first, second = scene.book.incidents.values()
    assert [alert.key for alert in first.alerts] == [NORTH]
    assert [alert.key for alert in second.alerts] == [SOUTH, NORTH]
    assert (scene.kinds[-1], scene.events[-1].incident_id) == ("reopen", second.id)
    assert scene.told == [("raise", "shift"), ("resolve", "ok"), ("raise", "shift")]


def test_an_unacknowledged_critical_is_told_again_every_four_hours(scene: Scene) -> None:
    scene.see(NORTH, "critical", 0)
    for at in range(1, 12 * 60):
        scene.wait(at)
    repeats = [event for event in scene.events if event.kind == "repeat"]
    assert [event.at for event in repeats] == [minute(240), minute(480)]
    assert {event.why for event in repeats} == {"nobody has acknowledged it"}
    assert scene.do("acknowledge", 721)
    for at in range(722, 2000, 10):
        scene.wait(at)
    assert scene.kinds.count("repeat") == 2
    assert scene.heard_by("pager") == ["raise", "repeat", "repeat", "acknowledge"]
    assert scene.heard_by("chat") == ["raise", "repeat", "repeat"]


def test_an_acknowledged_incident_still_tells_of_a_rise_and_of_a_new_segment(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    scene.do("acknowledge", 2, why="")
    scene.see(NORTH, "critical", 3)
    scene.see(SOUTH, "shift", 4)
    assert scene.told == [
        ("raise", "warning"),
        ("acknowledge", "acknowledged"),
        ("escalate", "critical"),
        ("raise", "shift"),
    ]
    assert scene.handling == "acknowledged"


def test_who_acknowledges_second_changes_nothing_but_may_add_a_note(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    assert scene.do("acknowledge", 2, who="ann", why="")
    assert not scene.do("acknowledge", 3, who="bob", why="")
    assert scene.incident.handled_by == "ann"
    assert scene.do("acknowledge", 4, who="bob", why="I look at the lens")
    assert scene.incident.handled_by == "ann"
    assert [(event.kind, event.who) for event in scene.events[-2:]] == [("acknowledge", "ann"), ("note", "bob")]


def test_a_silence_is_silent_until_its_end_and_then_says_that_it_goes_on(scene: Scene) -> None:
    scene.see(NORTH, "shift", 1)
    scene.do("silence", 2, until=300)
    scene.see(NORTH, "critical", 3)
    scene.see(SOUTH, "critical", 4)
    for at in range(5, 285):
        scene.wait(at, shares={NORTH: 0.9})
    assert scene.told == [("raise", "shift"), ("silence", "silenced")]
    scene.wait(285)
    scene.wait(300)
    assert scene.told[2:] == [("ends_soon", None), ("expire", "critical")]
    assert (scene.incident.handling, scene.incident.handled_by) == ("open", None)
    assert scene.events[-1].why == "silenced by ann until now, and it goes on"
    scene.wait(301)
    assert scene.kinds[-1] == "expire"


def test_that_a_silence_ends_soon_is_told_once_to_those_who_hear_of_handling(scene: Scene) -> None:
    scene.see(NORTH, "critical", 1)
    scene.do("silence", 2, until=300)
    for at in range(3, 300):
        scene.wait(at)
    (notice,) = [event for event in scene.events if event.kind == "ends_soon"]
    assert (notice.at, notice.why) == (
        minute(285),
        "silenced by ann until 2026-11-24 05:00Z, which is soon: if it goes on then, that is told",
    )
    assert (scene.handling, action_of(notice)) == ("silenced", "info")
    assert scene.heard_by("pager") == ["raise", "silence", "ends_soon"]
    assert scene.heard_by("chat") == ["raise"]


def test_a_silence_that_is_prolonged_is_announced_before_each_end(scene: Scene) -> None:
    scene.see(NORTH, "critical", 1)
    scene.do("silence", 2, until=100)
    scene.wait(85)
    scene.do("expect", 90, until=200)
    for at in range(91, 200):
        scene.wait(at)
    assert [event.at for event in scene.events if event.kind == "ends_soon"] == [minute(85), minute(185)]


@pytest.mark.parametrize("until", [31.9, 10])
def test_the_end_of_a_short_silence_is_not_announced(scene: Scene, until: float) -> None:
    scene.see(NORTH, "critical", 1)
    scene.do("silence", 2, until=until)
    for at in range(3, 40):
        scene.wait(at)
    assert scene.kinds == ["raise", "silence", "expire"]


def test_no_end_is_announced_of_a_silence_that_is_lifted_or_over_or_that_nobody_would_hear_after(scene: Scene) -> None:
    scene.see(NORTH, "critical", 1)
    scene.do("silence", 2, until=100)
    scene.do("acknowledge", 50)
    scene.wait(90)
    scene.do("silence", 91, until=200)
    scene.see(NORTH, "ok", 150)
    scene.wait(190)
    assert "ends_soon" not in scene.kinds
    scene.see(SOUTH, "critical", 2000, provisional=True)
    scene.do("silence", 2001, until=2100)
    scene.wait(2090)
    assert (scene.kinds[-1], scene.events[-1].loud, scene.heard_by("pager")[-1]) == ("ends_soon", False, "resolve")


def test_after_a_silence_that_ended_while_nobody_looked_only_its_end_is_told(scene: Scene) -> None:
    scene.see(NORTH, "critical", 1)
    scene.do("silence", 2, until=100)
    scene.wait(101)
    scene.wait(102)
    assert scene.kinds == ["raise", "silence", "expire"]


def test_what_ends_in_a_silence_is_told_as_over(scene: Scene) -> None:
    scene.see(NORTH, "critical", 1)
    scene.do("silence", 2, until=300)
    scene.see(NORTH, "ok", 5)
    assert scene.heard_by("pager") == ["raise", "silence", "resolve"]


def test_what_was_never_told_is_not_told_as_over(scene: Scene) -> None:
    scene.see(NORTH, "critical", 1, provisional=True)
    scene.see(NORTH, "ok", 5)
    assert scene.told == []


def test_a_silence_with_an_exception_ends_where_twice_the_share_is_flagged(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1, share=0.12)
    scene.do("silence", 2, until=300, unless_worse=True, shares={NORTH: 0.2})
    scene.wait(10, shares={NORTH: 0.39})
    assert scene.handling == "silenced"
    scene.wait(11, shares={NORTH: 0.40})
    assert scene.handling == "open"
    assert scene.told[-1] == ("expire", "warning")
    assert scene.events[-1].why == "40.0% are flagged, and it was 20.0% when ann silenced it"


def test_a_silence_with_an_exception_ends_with_a_new_segment_which_is_told_once(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    scene.do("silence", 2, until=300, unless_worse=True)
    scene.see(("histogram", "north"), "shift", 3)
    assert scene.handling == "silenced"
    scene.see(SOUTH, "shift", 4)
    assert scene.handling == "open"
    assert scene.told == [("raise", "warning"), ("silence", "silenced"), ("raise", "shift")]
    assert "south" in scene.events[-2].why


def test_a_provisional_new_segment_breaks_no_silence(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    scene.do("silence", 2, until=300, unless_worse=True)
    scene.see(SOUTH, "critical", 4, provisional=True)
    assert scene.handling == "silenced"


def test_a_silence_lasts_over_an_end_and_a_return(scene: Scene) -> None:
    scene.see(NORTH, "shift", 1)
    scene.do("silence", 2, until=300)
    scene.see(NORTH, "ok", 10)
    scene.see(NORTH, "critical", 20)
    assert (scene.incident.handling, scene.incident.handled_by) == ("silenced", "ann")
    assert scene.told == [("raise", "shift"), ("silence", "silenced"), ("resolve", "ok")]
    scene.wait(300)
    assert scene.told[-1] == ("expire", "critical")


def test_expected_is_a_silence_that_says_so(scene: Scene) -> None:
    scene.see(NORTH, "shift", 1)
    scene.do("expect", 2, until=300, why="winter sale")
    assert (scene.incident.handling, scene.incident.handled_until) == ("expected", minute(300))
    scene.see(NORTH, "critical", 3)
    scene.wait(300)
    assert scene.told == [("raise", "shift"), ("expect", "expected"), ("expire", "critical")]


@pytest.mark.parametrize(
    ("kind", "more", "cure"),
    [
        ("silence", {"until": None}, "name an end"),
        ("silence", {"until": 2}, "which is over"),
        ("silence", {"until": 9, "why": " "}, "say why"),
        ("silence", {"until": 9, "who": ""}, "say who"),
        ("expect", {"until": None}, "name an end"),
        ("note", {"why": ""}, "write one"),
        ("note", {"why": "x" * 4001}, "at most 4,000"),
        ("acknowledge", {"why": "a\x00b"}, "NUL"),
    ],
)
def test_a_decision_without_author_end_or_reason_is_refused(
    scene: Scene, kind: str, more: dict[str, object], cure: str
) -> None:
    scene.see(NORTH, "shift", 1)
    with pytest.raises(UsageError, match=cure):
        scene.do(kind, 2, **more)  # type: ignore[arg-type]


def test_what_is_over_can_be_noted_on_and_nothing_else(scene: Scene) -> None:
    scene.see(NORTH, "shift", 1)
    scene.see(NORTH, "ok", 2)
    with pytest.raises(RefusedError, match=r"ended at 2026-11-24T00:02Z.*oodwatch note -1 TEXT"):
        scene.do("acknowledge", 3)
    assert scene.do("note", 3, why="it was the cleaning crew")
    assert scene.handling == "resolved"


def test_provisional_alerts_are_listed_and_never_told(scene: Scene) -> None:
    scene.see(NORTH, "critical", 0, provisional=True)
    for at in range(0, 2000, 10):
        scene.wait(at)
    scene.do("silence", 2001, until=2002)
    scene.wait(2003)
    scene.see(NORTH, "ok", 2004)
    assert scene.told == []
    assert scene.kinds == ["raise", "silence", "expire", "resolve", "resolve"]
    assert scene.incident.provisional


def test_provisional_alerts_are_told_where_that_was_asked_for() -> None:
    scene = Scene(Rules(page_provisional=True))
    scene.see(NORTH, "critical", 0, provisional=True)
    assert scene.told == [("raise", "critical")]


def test_one_real_alert_among_provisional_ones_is_told_though_not_the_worst(scene: Scene) -> None:
    scene.see(NORTH, "critical", 0, provisional=True)
    scene.see(SOUTH, "shift", 1)
    assert scene.told == [("raise", "shift")]
    assert not scene.incident.provisional
    scene.wait(500)
    assert scene.told == [("raise", "shift")]


def test_what_speaks_only_of_old_images_is_listed_as_late_and_not_told(scene: Scene) -> None:
    scene.see(NORTH, "critical", 300, newest=179, onset=minute(120))
    scene.see(NORTH, "warning", 301, newest=179)
    scene.wait(302, newest=179)
    scene.see(NORTH, "ok", 900)
    assert scene.kinds == ["late", "step_down", "resolve", "resolve"]
    assert scene.told == []


def test_what_was_found_late_and_goes_on_is_told(scene: Scene) -> None:
    """A monitor that was down catches up: the shift began long ago, and still is."""
    scene.see(NORTH, "critical", 300, newest=10)
    scene.wait(300, newest=299)
    scene.wait(301, newest=300)
    assert scene.kinds == ["late", "repeat"]
    assert scene.told == [("repeat", "critical")]
    assert scene.events[-1].why == "it goes on"


def test_a_slow_shift_with_an_old_onset_and_recent_images_is_told_at_once(scene: Scene) -> None:
    scene.see(NORTH, "warning", 600, onset=minute(300), newest=600)
    assert scene.told == [("raise", "warning")]


def test_history_that_is_taken_in_long_after_it_happened_tells_nothing(scene: Scene) -> None:
    for day in range(5):
        scene.see(NORTH, "critical", day * 3000, now=100_000)
        scene.see(NORTH, "ok", day * 3000 + 60, now=100_000)
    assert len(scene.book.incidents) == 5
    assert scene.told == []


def test_no_images_end_nothing_and_an_open_incident_is_marked_blind_and_sighted(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    scene.see(NO_IMAGES, "error", 50)
    assert scene.incident.state == "error"
    for at in range(51, 2000, 50):
        scene.wait(at, newest=49)
    assert scene.incident.resolved_at is None
    scene.see(NO_IMAGES, "ok", 2001)
    assert scene.incident.resolved_at is None
    assert scene.incident.state == "warning"
    scene.see(NORTH, "ok", 2002)
    assert scene.kinds == ["raise", "raise", "blind", "resolve", "sighted", "resolve", "resolve"]
    assert scene.told == [("raise", "warning"), ("raise", "error"), ("resolve", "ok")]


def test_missing_images_alone_are_an_incident_of_their_own(scene: Scene) -> None:
    scene.see(NO_IMAGES, "error", 50)
    scene.see(NO_IMAGES, "ok", 60)
    assert scene.kinds == ["raise", "resolve", "resolve"]
    assert scene.incident.resolved_at == minute(60)


def test_a_detector_that_begins_anew_withdraws_what_it_had_raised(scene: Scene) -> None:
    scene.see(NORTH, "critical", 1)
    scene.see(NORTH, "ok", 20, withdrawn=True)
    assert scene.kinds == ["raise", "withdraw", "resolve"]
    assert scene.incident.alerts[0].state == "no_data"
    assert scene.events[1].why == "the detector begins anew, with no evidence"
    scene.see(NORTH, "shift", 30)
    assert len(scene.book.incidents) == 2, "it never was ok: what is raised now is news"
    assert scene.told == [("raise", "critical"), ("resolve", "ok"), ("raise", "shift")]


def test_another_reference_takes_over_and_the_old_one_has_no_say_any_more(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1, reference_id=1)
    scene.see(NORTH, "shift", 5, reference_id=2)
    scene.see(NORTH, "ok", 6, reference_id=1)
    assert scene.kinds == ["raise", "withdraw", "resolve", "raise"]
    assert scene.incident.alerts[0].reference_id == 2
    assert scene.incident.resolved_at is None


def test_alerts_of_a_reference_that_scores_no_more_are_withdrawn(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    scene.see(SOUTH, "warning", 2)
    scene.wait(90, ended=(NORTH,))
    assert [alert.state for alert in scene.incident.alerts] == ["no_data", "warning"]
    assert scene.events[-1].why == "its reference scores no more"
    scene.wait(91, ended=(SOUTH,))
    assert scene.incident.resolved_at == minute(91)


def test_health_and_shift_are_incidents_of_their_own(scene: Scene) -> None:
    scene.see(NORTH, "shift", 1)
    scene.well("workers", "error", 2)
    scene.well("disk", "error", 3)
    scene.well("workers", "error", 4)
    assert [incident.kind for incident in scene.book.incidents.values()] == ["shift", "health"]
    assert scene.told == [("raise", "shift"), ("raise", "error"), ("raise", "error")]
    scene.well("workers", "ok", 5)
    scene.well("disk", "ok", 6)
    assert scene.incident.resolved_at == minute(6)
    assert scene.heard_by("pager") == ["raise", "raise", "resolve"], "who hears of criticals hears of errors"


def test_a_worker_that_dies_twice_a_day_is_told_twice_and_one_that_flaps_once(scene: Scene) -> None:
    for at in (0, 30, 600):
        scene.well("workers", "error", at)
        scene.well("workers", "ok", at + 10)
    assert scene.told == [("raise", "error"), ("resolve", "ok")] * 2


def test_a_model_that_differs_from_its_reference_is_told_loudly_once(scene: Scene) -> None:
    scene.well("model", "baseline_invalid", 1)
    for at in range(2, 3000, 100):
        scene.well("model", "baseline_invalid", at)
        scene.wait(at)
    assert scene.told == [("baseline_invalid", "baseline_invalid")]
    assert scene.heard_by("pager") == ["baseline_invalid"]


def test_while_scores_mean_nothing_shifts_are_listed_with_the_reason_and_told_once_they_mean_something(
    scene: Scene,
) -> None:
    scene.well("model", "baseline_invalid", 1)
    scene.see(NORTH, "warning", 2, detail="odds ×4")
    scene.see(NORTH, "critical", 3)
    for at in range(4, 600):
        scene.wait(at)
    assert scene.told == [("baseline_invalid", "baseline_invalid")]
    assert [event.why for event in scene.events[1:]] == [
        "odds ×4; told to nobody, as scores cannot be held against their reference now",
        "told to nobody, as scores cannot be held against their reference now",
    ]
    scene.well("model", "ok", 600)
    for at in range(600, 840):
        scene.wait(at)
    assert scene.told[2:] == [("repeat", "critical")]
    assert scene.events[-1].why == "scores can be held against their reference again, and it goes on"
    scene.wait(840)
    assert scene.events[-1].why == "nobody has acknowledged it"


def test_what_ended_while_scores_meant_nothing_is_never_told(scene: Scene) -> None:
    scene.well("model", "baseline_invalid", 1)
    scene.see(NORTH, "critical", 2)
    scene.see(NORTH, "ok", 30)
    scene.well("model", "ok", 40)
    scene.wait(41)
    assert scene.told == [("baseline_invalid", "baseline_invalid"), ("resolve", "ok")]
    assert scene.kinds.count("resolve") == 4


def test_missing_images_and_the_pipelines_health_are_told_whatever_scores_mean(scene: Scene) -> None:
    scene.well("model", "baseline_invalid", 1)
    scene.see(NORTH, "critical", 2)
    scene.see(NO_IMAGES, "error", 3)
    scene.well("workers", "error", 4)
    assert [event.alert for event in scene.events if event.loud] == [("model", ""), NO_IMAGES, ("workers", "")]


def test_a_segment_that_joined_a_known_incident_meanwhile_is_told_after_it(scene: Scene) -> None:
    scene.see(NORTH, "critical", 1)
    scene.well("model", "baseline_invalid", 2)
    scene.see(SOUTH, "critical", 3)
    scene.see(("histogram", "north"), "shift", 4)
    scene.wait(100)
    scene.see(SOUTH, "shift", 101)
    assert len(scene.told) == 2
    scene.well("model", "ok", 110)
    for at in range(110, 300):
        scene.wait(at)
    assert scene.told[3:] == [("repeat", "critical")]


def test_a_silence_that_ends_while_scores_mean_nothing_ends_when_that_can_be_told(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    scene.do("silence", 2, until=60)
    scene.well("model", "baseline_invalid", 3)
    scene.wait(100)
    assert scene.book.incidents[-1].handling == "silenced"
    scene.well("model", "ok", 110)
    scene.wait(110)
    assert scene.told[-1] == ("expire", "warning")


def test_the_end_goes_to_whoever_heard_of_it_and_to_nobody_else(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    scene.see(NORTH, "ok", 9)
    assert (scene.heard_by("chat"), scene.heard_by("mail")) == (["raise", "resolve"], ["raise", "resolve"])
    assert scene.heard_by("pager") == []


def test_states_have_the_severities_of_pagers() -> None:
    said = {state: severity(state) for state in ("ok", "shift", "warning", "error", "baseline_invalid", "critical")}
    assert list(said.values()) == ["ok", "info", "warning", "error", "error", "critical"]


def test_an_event_asks_a_channel_to_begin_to_acknowledge_to_end_or_to_know(scene: Scene) -> None:
    scene.see(NORTH, "warning", 1)
    event = scene.events[0]
    said = {kind: action_of(replace(event, kind=kind)) for kind in ("escalate", "silence", "resolve", "note")}
    assert said == {"escalate": "trigger", "silence": "acknowledge", "resolve": "resolve", "note": "info"}


@pytest.mark.parametrize(
    ("stream", "key"),
    [
        ("pooled", ("fraction", "")),
        ("segment:a:b", ("fraction", "a:b")),
        ("histogram", ("histogram", "")),
        ("histogram:north", ("histogram", "north")),
        ("silence", ("silence", "")),
    ],
)
def test_a_stream_is_the_signal_and_segment_of_an_alert_and_back(stream: str, key: tuple[str, str]) -> None:
    assert key_of(stream) == key
    assert stream_of(key) == stream
