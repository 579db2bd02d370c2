"""The blind-spot card: what each score sees of damage, which d and which score that speaks for.

Harm of a kind of damage is the share of right answers it costs, or, without labels, the share of answers
it changes. A score is worth the share of images it flags, weighted by harm: flagging what does no harm
earns nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Card, CardLine, Float64s
from pipeline.scoring.evaluation import shares_in_bins, total_variation

HARM = 0.1  # from here on a kind of damage matters
GAIN = 0.05  # of harm-weighted flagged share: what a more complicated score must bring
HISTOGRAM_SEES = 0.15  # of total variation beyond that of the undamaged images


@dataclass(frozen=True, slots=True)
class Examined:
    """One kind of damage: n images, each with its scores, its answer, and whether the answer is right."""

    kind: str
    scores: Mapping[str, Float64s]  # by score, (n,)
    right: NDArray[np.bool_] | None  # where labels exist
    unchanged: NDArray[np.bool_]  # the class is the one before the damage


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What a score is held against; from the images of the quantile."""

    threshold: float
    edges: Float64s  # inner edges of the 18-bin histogram
    shares: Float64s  # what normal images fill them with


def harm(line: CardLine, undamaged: CardLine) -> float:
    """The share of right answers that a kind of damage costs, 0..1; of unchanged answers without labels."""
    if line.accuracy is None or not undamaged.accuracy:
        return 1 - line.agreement
    return max(0.0, 1 - line.accuracy / undamaged.accuracy)


def worth(lines: Sequence[CardLine], score: str) -> float:
    """Share of images flagged by a score over all damage, weighted by harm; 0 where nothing does harm."""
    weights = [harm(line, lines[0]) for line in lines[1:]]
    total = sum(weights)
    flagged = (weight * line.flagged[score] for weight, line in zip(weights, lines[1:], strict=True))
    return sum(flagged) / total if total > 0 else 0.0


def card_lines(examined: Sequence[Examined], yardsticks: Mapping[str, Yardstick]) -> tuple[CardLine, ...]:
    """One line a kind of damage; the first must be the undamaged images."""
    return tuple(
        CardLine(
            kind=kind.kind,
            accuracy=None if kind.right is None else float(kind.right.mean()),
            agreement=float(kind.unchanged.mean()),
            flagged={
                name: float((kind.scores[name] > yardstick.threshold).mean()) for name, yardstick in yardsticks.items()
            },
            distance={
                name: total_variation(shares_in_bins(kind.scores[name], yardstick.edges), yardstick.shares)
                for name, yardstick in yardsticks.items()
            },
            shares={
                name: shares_in_bins(kind.scores[name], yardstick.edges).tolist()
                for name, yardstick in yardsticks.items()
            },
        )
        for kind in examined
    )


def best_score(lines: Sequence[CardLine], candidates: Sequence[str]) -> str:
    """The candidate of greatest worth; the first of equals."""
    return max(candidates, key=lambda name: (worth(lines, name), -candidates.index(name)))


def make_card(
    lines: tuple[CardLine, ...], *, n: int, target_fpr: float, dimensions: int | None, plain: str, richer: str
) -> Card:
    """The card with its recommendation: the richer score where it brings enough and leaves normal images alone."""
    names = [name for name in (plain, richer) if name in lines[0].flagged]
    if len(names) == 1:
        because = f"{richer} could not be made of this model's features"
        return Card(n, target_fpr, dimensions, lines, plain, because)
    value, richer_value = worth(lines, plain), worth(lines, richer)
    counted = "of harmful damage it flags {:.0%}, {} {:.0%} (images weighted by the harm done)"
    quiet = lines[0].flagged[richer] <= max(3 * target_fpr, lines[0].flagged[plain] + target_fpr)
    if richer_value >= value + GAIN and quiet:
        return Card(n, target_fpr, dimensions, lines, richer, counted.format(richer_value, plain, value))
    because = counted.format(value, richer, richer_value)
    if not quiet:
        because += f", but {richer} also flags {lines[0].flagged[richer]:.0%} of undamaged images"
    return Card(n, target_fpr, dimensions, lines, plain, because)


@dataclass(frozen=True, slots=True)
class Sight:
    """Kinds of damage by what happens to them under one score."""

    flagged: tuple[str, ...]  # harmful, and images are flagged three times as often as normal ones
    histogram: tuple[str, ...]  # harmful, not flagged, but the histogram of the scores moves
    blind: tuple[str, ...]  # harmful, and nothing moves
    false_alarms: tuple[str, ...]  # harmless, and flagged


def sight(card: Card, score: str) -> Sight:
    """Sort the kinds of damage by what a score makes of them."""
    undamaged = card.lines[0]
    flagged, histogram, blind, false_alarms = [], [], [], []
    for line in card.lines[1:]:
        is_flagged = line.flagged[score] >= 3 * card.target_fpr
        if harm(line, undamaged) < HARM:
            if is_flagged:
                false_alarms.append(line.kind)
        elif is_flagged:
            flagged.append(line.kind)
        elif line.distance[score] >= undamaged.distance[score] + HISTOGRAM_SEES:
            histogram.append(line.kind)
        else:
            blind.append(line.kind)
    return Sight(tuple(flagged), tuple(histogram), tuple(blind), tuple(false_alarms))


def card_sentences(card: Card, score: str) -> list[str]:
    """What the reference's own score sees and does not see, and which score is recommended."""
    seen = sight(card, score)
    said = [
        (seen.flagged, "sees", f"flagged at least three times as often as the {card.target_fpr:.0%} of normal images"),
        (seen.histogram, "sees only in the histogram", "single images pass, the distribution of scores moves"),
        (seen.blind, "cannot see", "the model is wrong and neither flags nor histogram move much"),
        (seen.false_alarms, "flags although the model copes", "expect alarms without harm"),
    ]
    sentences = [f"{score} {what}: {', '.join(kinds)} ({why})." for kinds, what, why in said if kinds]
    advice = f"Recommended: {card.recommended}; {card.because}."
    if card.recommended != score:
        advice += f" This reference uses {score}: for the other, calibrate with --score {card.recommended}."
    return [*sentences, advice]
