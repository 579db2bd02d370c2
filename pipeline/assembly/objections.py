"""What speaks against a model in the place of another, before it has scored an image."""

from collections.abc import Mapping
from typing import Any

from pipeline.assembly.detecting import thresholds_of
from pipeline.errors import RefusedError
from pipeline.records import Reference
from pipeline.settings import Settings
from pipeline.shift.null import Null
from pipeline.storage.packages import RegisteredPackage
from pipeline.training.groups import WORSE_BY


def objections(settings: Settings, package: RegisteredPackage, reference: Reference, before: Reference) -> list[str]:
    """What speaks against a package in the place of the model whose reference is `before`."""
    against = []
    if package.classes != before.classes:
        odd = sorted(set(package.classes) ^ set(before.classes))
        what = (
            f"has {', '.join(odd[:3])}{', ...' if len(odd) > 3 else ''} that only one of the two knows" if odd else ""
        )
        against.append(f"its classes are others: it {what or 'has them in another order'}")
    if why := worse(package.repair or {}):
        against.append(f"its repair made it worse: {why}")
    for what in ("decoder", "dtype"):
        has, needs = getattr(before, what), getattr(reference, what)
        if has != needs:
            against.append(f"{reference.name} was made with {what} {needs!r}, the workers have {has!r}")
    try:
        Null.from_reference(reference).check(thresholds_of(settings))
    except RefusedError as error:
        against.append(f"nobody would judge {reference.name}: {error}")
    return against


def worse(repair: Mapping[str, Any]) -> str | None:
    """Why a repair is none, by its own report: the worst group, or the mean by a point; None where it is one."""
    before, after = repair.get("before", {}), repair.get("after", {})

    def fall(key: str, by: float) -> bool:
        known = before.get(key) is not None and after.get(key) is not None
        return known and after[key] < before[key] - by

    for key, what, by in (
        ("worst", "the worst group falls", 0.0),
        ("mean", "mean accuracy falls", WORSE_BY),
        ("accuracy", "accuracy falls", WORSE_BY),
    ):
        if fall(key, by):
            return f"{what} from {before[key]:.1%} to {after[key]:.1%}"
    return None
