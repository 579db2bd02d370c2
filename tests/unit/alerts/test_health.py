"""What is wrong with the pipeline itself: each rule, its limits on the way up and down, its remedy."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from pipeline.alerts.health import APART, RULES, findings
from pipeline.alerts.snapshot import Disk, Partition, Snapshot, Worker
from tests.unit.alerts.scenes import minute

NOW = minute(600)
DAY = timedelta(days=1)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def partition(waiting: int, moved: float, newest: float | None = None, name: str = "images/0") -> Partition:
    return Partition(name, waiting, ago(moved), ago(moved if newest is None else newest), DAY, ago(1))


def unread(minutes: float | None, ahead: float | None = None, *, waiting: int = 9) -> dict[str, Any]:
    """One partition, whose log keeps a day, or so much by size alone."""
    kept, since = (None, None) if minutes is None else (DAY, ago(minutes))
    return {"partitions": (Partition("images/0", waiting, ago(0), ago(0), kept, since, ahead),)}


def worker(beat: float = 0, started: float = 300, *, ready: bool = True, name: str = "gpu-1:7") -> Worker:
    return Worker(name, ago(started), ago(beat), ready, () if ready else ("the log does not answer",), 200.0)


WELL = Snapshot(
    now=NOW,
    partitions=(partition(0, 30), partition(5, 0, name="images/1")),
    scored=100_000,
    dead={},
    skewed={"north": (0, 50_000)},
    workers=(worker(),),
    disk=Disk("/var/lib/oodwatch", 50 * 2**30, 100 * 2**30),
    imaged=(ago(500), ago(2)),
    judged_until=ago(2),
    chosen=True,
)


def states(seen: Snapshot, *firing: str) -> dict[str, str]:
    return {found.rule: found.state for found in findings(seen, {(name, "") for name in firing})}


def text(seen: Snapshot, rule: str) -> str:
    return next(found.detail for found in findings(seen, ()) if found.rule == rule)


def test_a_pipeline_that_is_well_raises_nothing_and_every_rule_says_so() -> None:
    assert states(WELL) == dict.fromkeys(RULES, "ok")
    assert states(WELL, *RULES) == dict.fromkeys(RULES, "ok")


def test_what_is_not_known_neither_raises_nor_ends_anything() -> None:
    assert states(Snapshot(NOW)) == {}
    assert states(Snapshot(NOW), *RULES) == {}


@pytest.mark.parametrize(
    ("rule", "state", "raises", "holds", "ends"),
    [
        (
            "results",
            "error",
            {"partitions": (partition(9, 10),)},
            {"partitions": (partition(9, 3),)},
            {"partitions": (partition(9, 1),)},
        ),
        (
            "results",
            "error",
            {"partitions": (partition(9, 10),)},
            {"partitions": (partition(1, 3),)},
            {"partitions": (partition(0, 30),)},
        ),
        (
            "lag",
            "warning",
            {"partitions": (partition(9, 1, 15),)},
            {"partitions": (partition(9, 1, 6),)},
            {"partitions": (partition(9, 1, 4),)},
        ),
        ("retention", "warning", unread(0.8 * 1440 + 1), unread(0.76 * 1440), unread(0.74 * 1440)),
        ("retention", "warning", unread(0, 0.19), unread(0, 0.24), unread(0, 0.26)),
        ("ledger", "error", {"scored": 9989, "lost": 11}, {"scored": 9993, "lost": 7}, {"scored": 9996, "lost": 4}),
        (
            "dead_letters",
            "warning",
            {"scored": 990, "dead": {"decode": 30}},
            {"scored": 990, "dead": {"decode": 6}},
            {"scored": 990, "dead": {"decode": 4}},
        ),
        (
            "clocks",
            "warning",
            {"skewed": {"a": (0, 9), "b": (50, 1000)}},
            {"skewed": {"b": (30, 1000)}},
            {"skewed": {"b": (20, 1000)}},
        ),
        ("workers", "error", {"workers": (worker(2),)}, {"workers": (worker(1.5),)}, {"workers": (worker(0.5),)}),
        (
            "disk",
            "error",
            {"disk": Disk("/d", 4 * 2**30, 100 * 2**30)},
            {"disk": Disk("/d", 11 * 2**29, 100 * 2**30)},
            {"disk": Disk("/d", 6 * 2**30, 100 * 2**30)},
        ),
        ("judging", "error", {"judged_until": ago(12)}, {"judged_until": ago(5)}, {"judged_until": ago(3)}),
        (
            "judging",
            "error",
            {"judged_until": None, "imaged": (ago(20), ago(2))},
            {"judged_until": ago(5)},
            {"judged_until": ago(2)},
        ),
        ("model", "baseline_invalid", {"mixed": "two models"}, {"mixed": "two models"}, {"mixed": None}),
        (
            "handover",
            "error",
            {"chosen": True, "refused": (ago(3), 2, "corrupt")},
            {"chosen": True, "refused": (ago(9), 2, "corrupt")},
            {"chosen": True},
        ),
    ],
)
def test_a_rule_begins_at_its_limit_and_ends_well_below_it(
    rule: str, state: str, raises: dict[str, object], holds: dict[str, object], ends: dict[str, object]
) -> None:
    for changed, before, after in ((raises, "ok", state), (holds, state, state), (ends, state, "ok")):
        firing = () if before == "ok" else (rule,)
        assert states(replace(WELL, **changed), *firing)[rule] == after  # type: ignore[arg-type]
    if rule not in {"model", "handover"}:
        assert states(replace(WELL, **holds))[rule] == "ok", "between the limits nothing begins"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "rule", "said"),
    [
        (
            {"partitions": (partition(1200, 25),)},
            "results",
            "no result from images/0 for 25 min while 1,200 records wait in 1 of 1 partitions: see what",
        ),
        (
            {"partitions": (partition(60_000, 1, 40),)},
            "lag",
            "40 min old and 60,000 wait, 5 min of work at 200 images/s: start more workers",
        ),
        ({"lost": 2000}, "ledger", "2,000 of the last hour's 102,000 records (2.0%) were never read"),
        (
            {"dead": {"decode": 1500, "too_large": 20}},
            "dead_letters",
            "1,520 of the last hour's 101,520 records (1.5%) could not be scored, 1,500 of them for decode",
        ),
        (
            {"skewed": {"n": (90, 100), "s": (60, 100)}},
            "clocks",
            "segment n: 90 of the last hour's 100 images (90%) had no time that could be used",
        ),
        (
            {"workers": (worker(30), worker(40, name="gpu-2:9"), worker())},
            "workers",
            "worker gpu-2:9 has been silent for 40 min, and 1 more worker, 1 beat",
        ),
        (
            {"disk": Disk("/var/lib", 2**29, 100 * 2**30)},
            "disk",
            "0.5 GiB (0.5%) are free where /var/lib lies: make room",
        ),
        (
            {"judged_until": ago(30)},
            "judging",
            "no minute was judged since 2026-11-24T09:30Z, though images came until 2026-11-24T09:58Z",
        ),
    ],
)
def test_a_finding_says_the_value_and_the_remedy_and_that_it_is_apart_from_the_budget(
    changed: dict[str, object], rule: str, said: str
) -> None:
    detail = text(replace(WELL, **changed), rule)  # type: ignore[arg-type]
    assert said in detail
    assert detail.endswith(APART)


def test_a_quiet_producer_is_no_fault_of_the_pipeline() -> None:
    assert states(replace(WELL, partitions=(partition(0, 10_000),)))["results"] == "ok"


def test_a_worker_that_another_one_has_replaced_is_not_missed() -> None:
    killed = worker(60, 500, name="gpu-1:7")
    assert states(replace(WELL, workers=(killed,)))["workers"] == "error"
    assert states(replace(WELL, workers=(killed, worker(0, 50, name="gpu-1:8"))), "workers")["workers"] == "ok"
    assert states(replace(WELL, workers=(killed, worker(0, 400, name="gpu-2:1"))))["workers"] == "error"


def test_workers_none_of_which_is_ready_for_long_are_told_with_their_reason() -> None:
    stuck = replace(WELL, partitions=(partition(0, 8),), workers=(worker(ready=False),))
    assert "no worker is ready, 1 beat: the log does not answer" in text(stuck, "workers")
    assert states(replace(stuck, workers=(worker(0, 3, ready=False),)))["workers"] == "ok", "it warms up"
    assert states(replace(stuck, partitions=(partition(0, 1),)))["workers"] == "ok"


def test_a_few_dead_letters_in_little_traffic_raise_nothing() -> None:
    assert states(replace(WELL, scored=100, dead={"decode": 19}))["dead_letters"] == "ok"


def test_on_a_fast_clock_processes_may_be_silent_for_as_many_times_longer() -> None:
    late = {"workers": (worker(90),), "partitions": (partition(9, 500, 500),), "judged_until": ago(480)}
    seen = replace(WELL, pace=60.0, **late)  # type: ignore[arg-type]
    assert states(seen) == dict.fromkeys(RULES, "ok")
    at_machine_speed = states(replace(seen, pace=1.0))
    assert {rule for rule, state in at_machine_speed.items() if state != "ok"} == {"results", "workers", "judging"}


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            unread(1398),
            "unread images of images/0 may be deleted in 42 min, as the log keeps 24 h, 9 wait in 1 of 1",
        ),
        (unread(1500), "unread images of images/0 may be deleted at any moment, as the log keeps 24 h"),
        (unread(100, 0.07), "only 7% of what the log holds of images/0, which is limited by size, lie before"),
        (unread(1398, 0.9), "may be deleted in 42 min"),
        (unread(None, 0.07), "only 7% of what the log holds"),
    ],
)
def test_how_long_unread_images_are_kept_is_said_by_what_ends_first(seen: dict[str, Any], words: str) -> None:
    assert words in text(replace(WELL, **seen), "retention")


def test_what_is_nearly_deleted_is_an_error_and_what_was_read_is_no_concern() -> None:
    for close in (unread(0.951 * 1440), unread(None, 0.04)):
        assert states(replace(WELL, **close))["retention"] == "error"
    for read in (unread(3000, waiting=0), unread(None, 0.0, waiting=0)):
        assert states(replace(WELL, **read))["retention"] == "ok"


def test_a_log_that_keeps_everything_or_does_not_say_is_no_concern() -> None:
    assert "retention" not in states(replace(WELL, **unread(None)))
    assert "retention" not in states(replace(WELL, partitions=(Partition("s/0", 9, ago(0), None, DAY),)))
    assert states(replace(WELL, headroom=0.01, **unread(1398)))["retention"] == "ok"
