"""`oodwatch replay` of stored minutes: what would have been raised if something had been different."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from pipeline.cli.output import iso
from pipeline.storage.engine import open_database
from pipeline.storage.references import save_reference
from tests.integration.typing_commands import Command
from tests.watched_days import MINUTE, MONDAY, Days, calibrated, rolled_up

CLEAN, SHIFTED = 300, 120


@pytest.fixture
def days(database_url: str) -> Iterator[Days]:
    """Five clean hours, then two with 8 % flagged; a second reference is the same, a third a little higher."""
    engine = open_database(database_url)
    made = Days.begin(engine)
    rate = np.repeat([0.05, 0.08], [CLEAN, SHIFTED])
    made.store(MONDAY, rolled_up(made.reference, rate, seed=1))
    with engine.begin() as conn:
        for version, shift in ((2, 0.0), (3, 0.35)):
            save_reference(conn, calibrated(version, shift))
    yield made
    engine.dispose()


@pytest.fixture
def ask(days: Days, command: Command) -> Any:
    """Replays all of it with some flags; the lines of all traffic's flags."""
    url = days.engine.url.render_as_string(hide_password=False)
    window = ("--database", url, "--from", iso(MONDAY), "--to", iso(MONDAY + timedelta(days=1)))

    def asked(*flags: object) -> Any:
        return command("replay", *window, *flags)

    return asked


def pooled(printed: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, printed.splitlines()) if line["stream"] == "pooled"]


def raised(printed: str) -> tuple[int, str] | None:
    """The minute of the first raise, and the highest state."""
    order = ("ok", "shift", "warning", "critical")
    states = [line["state"] for line in pooled(printed)]
    first = next((minute for minute, state in enumerate(states) if state != "ok"), None)
    return None if first is None else (first, max(states, key=order.index))


def test_a_smaller_promise_finds_sooner_and_levels_grade(ask: Any) -> None:
    usual, quick = (raised(ask("--json", *flags).out) for flags in ((), ("--budget-days", "0.5")))
    assert usual is not None
    assert quick is not None
    assert CLEAN < quick[0] < usual[0] < CLEAN + SHIFTED
    low, high = (raised(ask("--json", "--warning", level, "--critical", "0.3").out) for level in ("0.07", "0.2"))
    assert (low, high) == ((usual[0], "warning"), (usual[0], "shift"))
    told = ask()
    assert "ok → shift" in told.out
    assert f"{iso(MONDAY + usual[0] * MINUTE)}  pooled" in told.out


def test_under_a_reference_like_its_own_the_same_is_said(ask: Any) -> None:
    own, other = ask("--json").out, ask("--json", "--reference", "m-r2")
    assert other.out == own
    assert "at most 0 (0.00%) of them are on the wrong side" in other.err
    assert ask("--json", "--reference", "m-r1").out == own


def test_under_a_higher_threshold_nothing_is_raised_and_the_uncertainty_is_told(ask: Any) -> None:
    answer = ask("--json", "--reference", "m-r3")
    assert raised(answer.out) is None
    assert len(pooled(answer.out)) == CLEAN + SHIFTED
    assert "flags under m-r3 of 25,200 images scored with m-r1 are counted from 256 fine bins: at most" in answer.err


def test_a_baseline_of_the_window_is_replayed_by_its_number(
    days: Days, ask: Any, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODWATCH_DETECTOR__WARNING", "0.15")  # two hours bound neither rate nor dispersion well
    url = days.engine.url.render_as_string(hide_password=False)
    window = ("--from", iso(MONDAY + CLEAN * MINUTE), "--to", iso(MONDAY + timedelta(days=1)))
    who = ("--name", "ann", "--reason", "nights are like this")
    assert command("baseline", "accept", "--database", url, *window, *who).code == 0
    assert raised(ask("--json").out) is None
    assert raised(ask("--json", "--baseline", "1").out) is None
    assert raised(ask("--json", "--baseline", "none").out) is not None
    ask("--baseline", "2").refuses(2, "no baseline has version 2", "known: 1")
    ask("--baseline", "x").refuses(2, "--baseline 'x'", "none")


def test_questions_that_cannot_be_answered_are_refused_in_one_line(days: Days, ask: Any, command: Command) -> None:
    url = days.engine.url.render_as_string(hide_password=False)
    ask("--reference", "m-r9").refuses(2, "no reference is named 'm-r9'")
    ask("--deployment", "x").refuses(2, "no deployment 'x'", "known: d")
    ask("--warning", "0.05").refuses(3, "reaches the warning level")
    ask("--warning", "0.5", "--critical", "0.3").refuses(2, "warning < critical")
    ask("--n-calibration", "5").refuses(2, "--n-calibration: belong to ticks from a file")
    ask("--ticks", "x.jsonl").refuses(2, "--from, --to: belong to stored ticks")
    command("replay", "--database", url).refuses(2, "give --from and --to")
    late = ("--from", iso(MONDAY + timedelta(days=3)), "--to", iso(MONDAY + timedelta(days=4)))
    command("replay", "--database", url, *late).refuses(3, "no evaluated minute", "2026-01-05T07:00Z")
    command("replay", "--ticks", "x.jsonl").refuses(2, "--n-calibration N")
