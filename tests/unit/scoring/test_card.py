import numpy as np
import pytest

from pipeline.records import Card, CardLine
from pipeline.scoring.card import (
    Examined,
    Yardstick,
    best_score,
    card_lines,
    card_sentences,
    harm,
    make_card,
    sight,
    worth,
)


def line(kind: str, accuracy: float | None, energy: float, richer: float, moved: float = 0.1) -> CardLine:
    flagged = {"energy": energy, "energy+residual": richer}
    agreement = 0.5 if accuracy is None else accuracy
    return CardLine(kind, accuracy, agreement, flagged, dict.fromkeys(flagged, moved))


LINES = (
    line("none", 0.9, 0.05, 0.05),
    line("mirrored", 0.9, 0.30, 0.04),  # harmless, and flagged by energy
    line("noisy", 0.45, 0.02, 0.80),  # costs half
    line("rotated", 0.0, 0.10, 0.12, moved=0.4),  # costs everything
)


def card(lines: tuple[CardLine, ...] = LINES) -> Card:
    return make_card(lines, n=100, target_fpr=0.05, dimensions=16, plain="energy", richer="energy+residual")


def test_harm_is_the_share_of_right_answers_lost() -> None:
    assert [harm(one, LINES[0]) for one in LINES[1:]] == [0, 0.5, 1]
    assert harm(line("static", None, 0, 0), LINES[0]) == 0.5  # without labels: answers that changed


def test_worth_weighs_flags_by_harm() -> None:
    assert worth(LINES, "energy") == pytest.approx((0.5 * 0.02 + 1 * 0.10) / 1.5)
    assert worth(LINES[:2], "energy") == 0


def test_a_score_is_recommended_for_what_it_brings() -> None:
    assert card().recommended == "energy+residual"
    assert best_score(LINES, ["energy", "energy+residual"]) == "energy+residual"
    same = tuple(line(one.kind, one.accuracy, 0.1, 0.1) for one in LINES)
    assert card(same).recommended == "energy"
    assert best_score(same, ["energy", "energy+residual"]) == "energy"


def test_a_score_that_flags_normal_images_is_not_recommended() -> None:
    noisy = (line("none", 0.9, 0.05, 0.4), *LINES[1:])
    assert card(noisy).recommended == "energy"
    assert "40% of undamaged images" in card(noisy).because


def test_the_words_sort_every_kind_of_damage() -> None:
    seen = sight(card(), "energy")
    assert (seen.flagged, seen.histogram, seen.blind, seen.false_alarms) == (
        (),
        ("rotated",),
        ("noisy",),
        ("mirrored",),
    )
    text = " ".join(card_sentences(card(), "energy"))
    assert "energy cannot see: noisy" in text
    assert "calibrate with --score energy+residual" in text
    assert "calibrate with" not in " ".join(card_sentences(card(), "energy+residual"))


def test_a_line_counts_flags_answers_and_bins() -> None:
    scores = {"energy": np.array([0.0, 1.0, 2.0, 3.0])}
    yardstick = {"energy": Yardstick(2.0, np.array([0.5, 2.5]), np.array([0.25, 0.5, 0.25]))}
    right, unchanged = np.array([True, True, False, False]), np.array([True, True, True, False])
    (made,) = card_lines([Examined("none", scores, right, unchanged)], yardstick)
    assert (made.accuracy, made.agreement, made.flagged, made.distance) == (0.5, 0.75, {"energy": 0.25}, {"energy": 0})
