"""Changes of state in words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.cli.wording import change_in_words
from pipeline.shift.verdict import BEGINS_ANEW, REPLACED, StreamVerdict, Transition

TICK = datetime(2026, 11, 24, 0, 24, tzinfo=UTC)
ONSET = TICK - timedelta(minutes=4)


def words(stream: str, before: str, after: str, leading: str = "", **verdict: Any) -> str:
    values: dict[str, Any] = {"onset": ONSET, "share": None, "low": None, "high": None, **verdict}
    k, n = values.pop("k", None), values.pop("n", None)
    change = Transition(before, after, k, n, leading)
    return change_in_words(TICK, StreamVerdict(stream, after, 17.05, transition=change, **values))


def test_a_segment_at_warning_is_told_with_onset_share_interval_and_evidence() -> None:
    said = words("segment:cam-3", "ok", "warning", "odds ×3.08", share=0.165, low=0.124, high=0.213, k=48.0, n=291.0)
    assert said == (
        "2026-11-24 00:24Z segment cam-3: ok → warning, 16.5% flagged since 00:20Z (48 of 291 images;"
        " 95 %: 12.4% to 21.3%), evidence 17.1 nats"
    )


def test_an_onset_on_another_day_has_its_date() -> None:
    assert "since 2026-11-23 23:24Z" in words("pooled", "ok", "shift", onset=TICK - timedelta(hours=1))


@pytest.mark.parametrize(
    ("leading", "said"),
    [
        ("Beta(1.5, 1)", "higher scores"),
        ("Beta(1, 12)", "lower scores"),
        ("Beta(0.35, 0.35)", "scores nearer to both ends"),
        ("Beta(5, 5)", "scores nearer to the middle"),
        ("bin 9", "many scores alike (bin 9)"),
    ],
)
def test_a_histogram_says_how_the_scores_have_moved(leading: str, said: str) -> None:
    assert words("histogram:cam-3", "ok", "shift", leading) == (
        f"2026-11-24 00:24Z score histogram of segment cam-3: ok → shift, since 00:20Z, evidence 17.1 nats,"
        f" best explained by {said}"
    )


def test_on_the_way_back_there_is_no_evidence_to_tell() -> None:
    said = words("segment:a", "warning", "shift", share=0.15, low=0.14, high=0.161, k=666.0, n=4440.0)
    assert said.endswith("warning → shift, 15.0% flagged since 00:20Z (666 of 4440 images; 95 %: 14.0% to 16.1%)")
    assert words("low", "shift", "ok", onset=None) == "2026-11-24 00:24Z low side: shift → ok"


def test_silence_counts_the_images_that_are_missing() -> None:
    said = words("silence", "ok", "shift", "no image")
    assert said == "2026-11-24 00:24Z silence: ok → shift, no image since 00:20Z, at least 17 were to be expected"


def test_what_ends_without_evidence_says_why() -> None:
    assert words("segment:a", "critical", "ok", BEGINS_ANEW, onset=None) == (
        "2026-11-24 00:24Z segment a: critical → ok, the detector begins anew, with another baseline or other settings"
    )
    assert words("silence", "shift", "ok", REPLACED, onset=None).endswith("shift → ok, its reference scores no more")


def test_what_is_raised_without_accepted_traffic_is_called_provisional() -> None:
    change = Transition("ok", "shift", None, None, "")
    said = change_in_words(TICK, StreamVerdict("low", "shift", 9.0, ONSET, None, None, None, change), provisional=True)
    assert said.endswith("nats, provisional: no accepted traffic tells yet how much normal traffic varies")
