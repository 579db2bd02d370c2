"""`oodwatch simulate`, as a person types it; with fewer simulated deployments than it has in earnest."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.app import app
from pipeline.errors import OodwatchError
from pipeline.records import Card, CardLine
from pipeline.shift.histogram import BINS, expected_shares
from pipeline.simulation import power
from pipeline.storage.engine import open_database
from pipeline.storage.references import save_reference
from tests.faults.scored import reference


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "_DEPLOYMENTS": 40,
        "_BEFORE": 30,
        "_NORMAL": 4_000,
        "_CHANGED": 8_000,
        "_DAMAGED": 2_000,
    }.items():
        monkeypatch.setattr(power, name, value)


def simulate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def lines(*arguments: object) -> list[dict[str, Any]]:
    result = simulate(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(text) for text in result.stdout.splitlines()]


def test_the_card_says_how_soon_each_share_is_found_and_how_often_it_is_wrong() -> None:
    ten, twenty, half, alarms = lines()
    assert [one["change"] for one in (ten, twenty, half, alarms)] == [
        "10% flagged",
        "20% flagged",
        "50% flagged",
        "none",
    ]
    assert 12 <= ten["median_minutes"] <= 24
    assert (half["median_minutes"], half["most_minutes"], half["by"], half["found"]) == (1, 1, "fraction", 1)
    assert 1 <= twenty["median_minutes"] <= twenty["most_minutes"] <= 5
    assert alarms["months"] == pytest.approx(4_000 / 43_200, rel=0.05)
    assert alarms["promised_a_month"] == 1
    assert alarms["a_month"] <= alarms["a_month_upper"]
    assert lines() == [ten, twenty, half, alarms]
    assert lines("--seed", 1) != [ten, twenty, half, alarms]


def test_several_segments_are_asked_for_one_of_them_too() -> None:
    *found, _ = lines("--segments", 3, "--images-per-minute", 30)
    assert [one["where"] for one in found] == ["all traffic"] * 3 + ["one of 3 segments"] * 3
    assert found[5]["most_minutes"] > found[2]["most_minutes"]


def test_rare_images_get_longer_ticks_and_what_is_not_found_in_time_has_no_minutes() -> None:
    ten, *_ = lines("--images-per-minute", 0.05)
    assert ten["median_minutes"] % 60 == ten["limit_minutes"] % 60 == 0
    assert ten["most_minutes"] is None
    assert 0.5 <= ten["found"] < 0.95


def test_people_get_a_table_and_a_sentence() -> None:
    said = simulate().stdout
    assert "10% flagged" in said
    assert "false alarms: 0 in 0.1 simulated months of normal traffic, at most" in said
    assert "promised: 1 a month" in said


def stored(folder: Path, *, with_shares: bool) -> str:
    """A database with a reference of 2,000 images and its card."""
    normal = expected_shares(2_000)
    stuck = np.eye(BINS)[9]

    def line(kind: str, shares: np.ndarray) -> CardLine:
        of_kind = {"energy": shares.tolist()} if with_shares else None
        return CardLine(kind, None, 1.0, {"energy": float(shares[14:].sum())}, {"energy": 0.0}, of_kind)

    card = Card(200, 0.05, None, (line("none", normal), line("same", normal), line("stuck", stuck)), "energy", "so")
    url = f"sqlite:///{folder / 'o.db'}"
    engine = open_database(url)
    with engine.begin() as conn:
        save_reference(conn, replace(reference(), n=2_000, target_fpr=0.05, card=card))
    engine.dispose()
    return url


def test_a_reference_brings_its_numbers_and_the_damage_of_its_card(tmp_path: Path) -> None:
    *shares, same, stuck, _ = lines("--reference", "m-r1", "--database", stored(tmp_path, with_shares=True))
    assert len(shares) == 3
    assert (same["change"], same["median_minutes"]) == ("same", None)
    assert (stuck["change"], stuck["most_minutes"], stuck["by"]) == ("stuck", 1, "histogram")


def test_a_card_without_histograms_is_left_out_and_said_so(tmp_path: Path) -> None:
    result = simulate("--reference", "m-r1", "--database", stored(tmp_path, with_shares=False), "--json")
    assert len(result.stdout.splitlines()) == 4
    assert "without histograms" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--images-per-minute", 0], "above 0"),
        (["--images-per-minute", "nan"], "above 0"),
        (["--n-calibration", 150], "at least 200"),
        (["--target-fpr", 1.5], "between 0 and 1"),
        (["--warning", 0.3, "--critical", 0.2], "warning < critical"),
        (["--warning", 0.055], "reaches the warning level"),
        (["--budget-days", 0], "above 0"),
        (["--reference", "m-r1", "--n-calibration", 3_000], "leave --n-calibration"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_line(arguments: list[object], said: str) -> None:
    result = simulate(*arguments)
    assert isinstance(result.exception, OodwatchError), result.exception
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
