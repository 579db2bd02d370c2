"""An explanation as plain values: what `oodwatch explain --json` prints and what is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.localization.explainer import Explanation, Region
from pipeline.localization.strangeness import LEAST_CHANGE, LEAST_SHARE, Reading


@dataclass(frozen=True, slots=True)
class Context:
    """What an image is held against."""

    image: str
    picture: str  # file, original, thumbnail
    model_id: str
    classes: Sequence[str]
    reference: str | None  # its name; None: only the image's own energies are known
    score_name: str
    threshold: float | None  # nats
    normal_score: float | None  # median of normal images, nats


def as_values(explanation: Explanation, context: Context) -> dict[str, Any]:
    """JSON's own types. Masks are COCO's uncompressed runs; changes are after minus before, nats."""
    whole = explanation.whole
    return {
        "image": context.image,
        "picture": context.picture,
        "width": explanation.width,
        "height": explanation.height,
        "model": context.model_id,
        "reference": context.reference,
        "score_name": context.score_name,
        "energy": whole.energy,
        "score": whole.score,
        "msp": whole.msp,
        "class": context.classes[whole.class_index],
        "threshold": context.threshold,
        "is_ood": None if context.threshold is None else whole.score > context.threshold,
        "normal_score": context.normal_score,
        "segmenter": explanation.segmenter,
        "masks": [_region(region, whole, context.classes) for region in explanation.regions],
        "explaining": explanation.explaining,
        "verdict": _verdict(explanation, context),
    }


def _region(region: Region, whole: Reading, classes: Sequence[str]) -> dict[str, Any]:
    filled = region.filled
    change = None
    if filled is not None and filled.class_index != whole.class_index:
        change = [classes[whole.class_index], classes[filled.class_index]]
    return {
        "source": region.source,
        "rle": {"size": [region.runs.height, region.runs.width], "counts": list(region.runs.counts)},
        "box": None if region.box is None else list(region.box),
        "share": region.share,
        "mask_score": region.mask_score,
        "stability": region.stability,
        "energy_filled": None if filled is None else filled.energy,
        "energy_change": None if filled is None else filled.energy - whole.energy,
        "score_change": None if filled is None else filled.score - whole.score,
        "class_filled": None if filled is None else classes[filled.class_index],
        "class_change": change,
    }


def _verdict(explanation: Explanation, context: Context) -> str:
    if context.normal_score is not None and explanation.whole.score < context.normal_score:
        return "nothing to explain: half of all normal images score higher"
    what = "region" if all(region.source == "auto" for region in explanation.regions) else "mask"
    at = explanation.explaining
    if at is not None:
        change = explanation.change(at)
        assert change is not None
        return f"{what} {at + 1} explains it: filled from its surroundings, the score changes by {change:+.2f} nats"
    changes = [change for i in range(len(explanation.regions)) if (change := explanation.change(i)) is not None]
    if not changes:
        return "no single region explains it: none was found"
    return (
        f"no single region explains it: filling the best one changes the score by {min(changes):+.2f} nats; it takes"
        f" {-LEAST_CHANGE:+g}, and {LEAST_SHARE:.0%} of what the image lies above normal ones"
    )
