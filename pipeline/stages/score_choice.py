"""Which residual space serves, and what the blind-spot card says of both scores."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.errors import RefusedError
from pipeline.records import ENERGY, ENERGY_RESIDUAL, Card, Float64s, Outputs, ResidualSpace
from pipeline.scoring.card import Examined, Yardstick, best_score, card_lines, make_card
from pipeline.scoring.residual import EnergyResidualScore, candidate_dimensions, fit_residual_spaces
from pipeline.shift.histogram import expected_shares, rank_edges
from pipeline.shift.threshold import conformal_threshold


def residual_scores(
    fitting: Sequence[Outputs],
    origin: Float64s | None,
    dimensions: int | None,
    temperature: float,
    device: str,
    *,
    required: bool,
) -> dict[int, tuple[ResidualSpace, EnergyResidualScore]]:
    """Energy + residual by d: the given one, or all candidates.

    Nothing where it cannot be made and is not required; RefusedError where it is.
    """
    try:
        if not fitting:
            raise RefusedError("no image is left to fit the residual on; give more images, or use --score energy")
        outputs = Outputs(
            np.concatenate([some.logits for some in fitting]), np.concatenate([some.features for some in fitting])
        )
        wanted = candidate_dimensions(outputs.features.shape[1]) if dimensions is None else (dimensions,)
        spaces = fit_residual_spaces(outputs, origin, wanted)
    except RefusedError:
        if required:
            raise
        return {}
    return {d: (space, EnergyResidualScore(space, temperature, device)) for d, space in spaces.items()}


def score_name_of(dimensions: int) -> str:
    """What a candidate is called while d is not yet chosen."""
    return f"{ENERGY_RESIDUAL} {dimensions}"


def choose_dimensions(examined: Sequence[Examined], candidates: Sequence[int], target_fpr: float) -> int | None:
    """The d of greatest worth on the card's own images; the middle one where there are too few to tell."""
    if not candidates:
        return None
    middle = candidates[len(candidates) // 2]
    if len(candidates) == 1 or not examined:
        return middle
    names = {score_name_of(d): d for d in candidates}
    yardsticks = {name: _yardstick(examined[0].scores[name], target_fpr) for name in names}
    usable = {name: yardstick for name, yardstick in yardsticks.items() if yardstick is not None}
    return names[best_score(card_lines(examined, usable), list(usable))] if usable else middle


def blind_spot_card(
    examined: Sequence[Examined], dimensions: int | None, calibrated: Mapping[str, Float64s], target_fpr: float
) -> Card | None:
    """The card, each score held against its calibration scores; None where there are too few images for one."""
    yardsticks = {name: _yardstick(scores, target_fpr) for name, scores in calibrated.items()}
    usable = {name: yardstick for name, yardstick in yardsticks.items() if yardstick is not None}
    if not examined or ENERGY not in usable:
        return None
    lines = card_lines([_of_one_space(kind, dimensions) for kind in examined], usable)
    return make_card(
        lines,
        n=len(examined[0].unchanged),
        target_fpr=target_fpr,
        dimensions=dimensions if ENERGY_RESIDUAL in usable else None,
        plain=ENERGY,
        richer=ENERGY_RESIDUAL,
    )


def _of_one_space(kind: Examined, dimensions: int | None) -> Examined:
    scores = {ENERGY: kind.scores[ENERGY]}
    if dimensions is not None:
        scores[ENERGY_RESIDUAL] = kind.scores[score_name_of(dimensions)]
    return replace(kind, scores=scores)


def _yardstick(scores: Float64s, target_fpr: float) -> Yardstick | None:
    """What scores are held against; None where there are too few for the rate."""
    try:
        threshold, _ = conformal_threshold(scores, target_fpr)
    except RefusedError:
        return None
    return Yardstick(threshold, rank_edges(np.sort(scores)), expected_shares(len(scores)))
