from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard import facts, wording
from dashboard.facts import Excess, Trust, Verdict
from dashboard.times import Clock, ago, percent, rarity
from pipeline.shift.folding import POOLED
from pipeline.storage.incident_pages import AlertLine, IncidentLine, VerdictLine
from pipeline.storage.processes import Process
from pipeline.storage.series import Totals
from pipeline.storage.streams import LedgerLine

NOW = datetime(2026, 11, 24, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CLOCK = Clock()
OK = Verdict("ok", None, None, 0, "fraction", False, None, None, None, None)
FRESH = Trust(NOW, timedelta(seconds=20), None, 0.9998, 0, 1, 0, ())


def trust(*, newest: datetime | None = NOW, until: datetime | None = NOW, beat: datetime = NOW, dead: int = 0) -> Trust:
    line = LedgerLine("d", "t", "id", 0, 1000, 1000 - dead, dead, 0, 0, 0, 0)
    running = [Process(f"h:{role}", role, "d", "1", NOW, beat, {}) for role in ("worker", "monitor")]
    return facts.trust([line], running, newest, until, now=NOW, stale_after=5 * MINUTE, silent_after=MINUTE)


def alert(**changed: Any) -> AlertLine:
    known = AlertLine("fraction", "cam", "shift", "shift", False, NOW, 0.28, 0.2, 0.3, 28.0, 100.0, "", NOW, None)
    return known._replace(**changed)


def incident(*alerts: AlertLine, **changed: Any) -> IncidentLine:
    known = IncidentLine(
        1, "shift", "open", None, None, NOW - timedelta(hours=2), "critical", "critical", False, NOW, None, alerts
    )
    return known._replace(**changed)


def test_new_images_and_a_running_worker_are_trusted() -> None:
    found = trust()
    assert (found.stale, found.scored, found.silent, found.reservations) == (None, 1.0, 0, ())


def test_five_minutes_without_an_image_make_figures_old() -> None:
    assert trust(newest=NOW - 5 * MINUTE).stale is None
    assert trust(newest=NOW - 6 * MINUTE).stale == "No new image for"


def test_a_monitor_that_stands_still_makes_figures_old_though_images_come() -> None:
    assert trust(until=NOW - 11 * MINUTE).stale == "Judged only up to"


def test_silent_processes_and_lost_images_are_said() -> None:
    found = trust(beat=NOW - 2 * MINUTE, dead=100)
    assert found.reservations == (
        "1 of 1 workers silent",
        "the monitor is silent",
        "100 images could not be scored",
    )


def test_shares_of_the_excess_add_up_and_the_worst_comes_first() -> None:
    before = {POOLED: Totals(10_000, 200), 1: Totals(5000, 100), 2: Totals(5000, 100)}
    now = {1: Totals(1000, 300), 2: Totals(1000, 90), 3: Totals(10, 10)}
    found = facts.excess(now, before, {1: "a", 2: "b", 3: "new", 4: "idle"}, 0.05)
    assert [one.segment for one in found] == ["a", "b", "new", "idle"]
    assert [round(one.normal, 4) for one in found] == [0.02, 0.02, 0.02, 0.02]
    assert sum(one.of_all for one in found) == pytest.approx(1)
    assert found[0].of_all == pytest.approx(280 / (280 + 70 + 9.8))
    assert found[3].share is None


def test_without_a_past_the_reference_says_what_is_normal() -> None:
    (one,) = facts.excess({1: Totals(100, 5)}, {}, {1: "a"}, 0.05)
    assert one.normal == pytest.approx(0.05)
    assert one.of_all == 0


def test_the_worst_alert_leads_and_a_segment_before_all_traffic() -> None:
    pooled = alert(segment="", state="critical")
    own = alert(segment="cam", state="critical")
    histogram = alert(signal="histogram", segment="x", state="critical")
    over = alert(segment="old", state="ok", resolved_at=NOW, peak="critical")
    assert facts.leading([pooled, histogram, over, own]) == own
    assert facts.leading([over]) == over
    assert facts.leading([]) is None


def test_an_incident_that_may_be_paged_comes_before_a_provisional_one() -> None:
    provisional = incident(id=1, provisional=True)
    mild = incident(id=2, state="shift")
    acknowledged = incident(id=3, state="shift", handling="acknowledged")
    assert facts.worst([provisional, acknowledged, mild]) == mild
    assert facts.worst([incident(resolved_at=NOW)]) is None


def test_a_fault_of_the_pipeline_is_told_as_one_and_hides_no_shift() -> None:
    fault = incident(alert(signal="lag", segment="", detail="unread images are deleted in 42 min"), id=5, kind="health")
    assert facts.worst([fault, incident(id=6, state="shift")]) == incident(id=6, state="shift")
    found = facts.verdict_of_incident(fault)
    assert say(found) == "The pipeline has a fault since 01:01"
    told = wording.details(found, [], {}, now=NOW, clock=CLOCK)
    assert told == ["unread images are deleted in 42 min", "nobody has it"]


def test_without_incidents_the_detectors_own_verdicts_are_told() -> None:
    lines = [
        VerdictLine("pooled", "shift", 9.0, NOW, 0.06, 0.05, 0.07, True, NOW),
        VerdictLine("segment:cam", "shift", 9.0, NOW, 0.3, 0.2, 0.4, True, NOW),
        VerdictLine("low", "ok", -1.0, None, None, None, None, True, NOW),
    ]
    found = facts.verdict_of_streams(lines)
    assert (found.severity, found.segment, found.provisional) == ("shift", "cam", True)
    assert facts.verdict_of_streams(lines[2:]).severity == "ok"


def say(verdict: Verdict, trusted: Trust = FRESH) -> str:
    return wording.headline(verdict, trusted, now=NOW, clock=CLOCK, learning=False)


def test_the_headline_says_what_where_and_since_when() -> None:
    found = facts.verdict_of_incident(incident(alert(state="critical"), alert(segment="other")))
    assert say(found) == "Critical shift on cam and 1 more since 01:01"
    assert say(OK) == "Normal."
    ended = facts.verdict_of_incident(incident(alert(state="ok", resolved_at=NOW), resolved_at=NOW, state="ok"))
    assert say(ended) == "Over: critical shift on cam, 01:01 to 03:01"
    mild = replace(ended, severity="warning")
    assert say(mild) == "Over: shift on cam, 01:01 to 03:01"


def test_old_figures_are_never_called_normal() -> None:
    old = replace(FRESH, stale="No new image for", data_to=NOW - 25 * MINUTE, age=25 * MINUTE)
    assert say(OK, old) == "Unknown. It was normal until 02:36."
    assert wording.trust_words(old, clock=CLOCK, now=NOW)[0] == "No new image for 25 min. Figures are those of 02:36."


def test_below_it_stands_how_much_what_kind_whether_it_matters_and_who_has_it() -> None:
    found = facts.verdict_of_incident(incident(alert()))
    shares = [Excess("cam", 12_410, 3475, 0.02, 0.82)]
    answer = {"cause": [{"kind": "lens", "title": "lens"}], "matters": {"accuracy_at_most": {"share": 0.87}}}
    assert wording.details(found, shares, answer, now=NOW, clock=CLOCK) == [
        "28 % unusual, normally 2.0 % (n 12,410)",
        "82 % of the excess",
        "looks like lens",
        "accuracy at most 87 %",
        "nobody has it",
    ]


def test_a_handful_of_images_is_not_judged() -> None:
    found = facts.verdict_of_incident(incident(alert()))
    told = wording.details(found, [Excess("cam", 12, 6, 0.02, 0.9)], {}, now=NOW, clock=CLOCK)
    assert told[0] == "n = 12, too few to judge"


@pytest.mark.parametrize(
    ("share", "words"), [(0, "0 %"), (0.0004, "0.04 %"), (0.0204, "2.0 %"), (0.0996, "10 %"), (1, "100 %")]
)
def test_shares_have_the_digits_that_matter(share: float, words: str) -> None:
    assert percent(share) == words


def test_nothing_is_rounded_up_to_all_scored() -> None:
    assert "99.99 % scored" in wording.trust_words(replace(FRESH, scored=0.999999), clock=CLOCK, now=NOW)


def test_rarity_says_one_in_how_many() -> None:
    assert [rarity(k, 2000) for k in (0, 1, 7, 90, 1500)] == [
        "< 1 in 2,000",
        "1 in 2,000",
        "1 in 300",
        "1 in 20",
        "usual",
    ]


def test_lengths_have_one_unit() -> None:
    assert [ago(timedelta(seconds=s)) for s in (18, 1500, 7200, 777_600)] == ["18 s", "25 min", "2 h", "9 days"]
