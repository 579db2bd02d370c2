"""What a coverage report finds, in words, and what is to be minded with it."""

from collections.abc import Sequence

from pipeline.scoring.matched_null import Compared
from pipeline.scoring.precision_recall import Degenerate, PrecisionRecall
from pipeline.stages.coverage_report import BELOW, COVERAGE_LOST, NOVEL, Finding, GroupLine, ImageRows

_STUCK = 0.1  # of the reference's radius: production below it is one scene
_SATURATED = 0.97
_FEW_DISTINCT, _MUCH_OUTSIDE = 0.9, 0.05


def findings(measured: PrecisionRecall, compared: Compared | None, groups: Sequence[GroupLine]) -> list[Finding]:
    """What is new and what is gone; of one scene only that it is one."""
    found = []
    if measured.radius_production < _STUCK * measured.radius_reference:  # its supports are those of one image
        apart = measured.radius_production / measured.radius_reference
        return [
            Finding(
                COVERAGE_LOST,
                f"production hardly varies: its images lie {apart:.0%} as far from each other as the reference's, as"
                " those of a stuck camera",
            )
        ]
    if compared is not None and compared.p_precision.z < BELOW:
        found.append(
            Finding(
                NOVEL,
                "production contains what the reference does not: its images are supported by"
                f" {compared.p_precision.value:.2f} on average, normal ones by {compared.p_precision.mean:.2f}"
                f" (z = {compared.p_precision.z:.1f})",
            )
        )
    lost = [line for line in groups if line.is_lost]
    if compared is not None and (compared.p_recall_in_support.z < BELOW or lost):
        covered = compared.p_recall_in_support
        kept = ", ".join(f"{line.group} ({line.coverage.value / line.coverage.mean:.0%} of normal)" for line in lost)
        what = f"production no longer covers {kept}; " if lost else "production covers less of the reference: "
        text = f"{what}{covered.value:.2f} of the whole, normal windows {covered.mean:.2f} (z = {covered.z:.1f})"
        found.append(Finding(COVERAGE_LOST, text))
    return found


def warnings(
    reference: ImageRows,
    production: ImageRows,
    measured: PrecisionRecall,
    compared: Compared | None,
    why: str | None,
) -> list[str]:
    """What makes a figure mean less than it seems; `why` there is no z."""
    found = [] if why is None else [why]
    n, outside = len(production.rows), int((measured.support <= 0).sum())
    if Degenerate.PRODUCTION_EQUAL in measured.degenerate:
        found.append(f"{production.name}: all {n:,} rows are equal: P-recall is 0, whatever the reference")
    elif (share := production.distinct_share) < _FEW_DISTINCT:
        found.append(
            f"only {share:.0%} of the images of production are distinct: repeats make its radius small, and with it"
            " P-recall"
        )
    if Degenerate.NOTHING_IN_SUPPORT in measured.degenerate:
        found.append(f"{n - outside} of {n:,} images have any support: P-recall in support cannot be measured")
    elif outside > _MUCH_OUTSIDE * n:
        found.append(
            f"{outside:,} of {n:,} images have no support at all: such raise P-recall, whatever is lost; trust"
            " p_recall_in_support, which leaves them out"
        )
    if compared is not None and compared.p_precision.mean > _SATURATED:
        found.append(
            f"in {reference.rows.shape[1]} dimensions normal P-precision is {compared.p_precision.mean:.3f}, as high as"
            " it can be: little of a change will show; take fewer, as with --dimensions 16"
        )
    return found
