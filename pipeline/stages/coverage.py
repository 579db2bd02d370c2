"""Coverage: features of a reference and of production → what is new, and what is no longer there.

    reference rows ─┬─► P-precision, P-recall (exact)  ─┐
    production rows ┤                                   ├─► findings, least covered and least supported images
    reference rows ─┴─► what both are without a change ─┘

Explains and ranks; what raises an alarm is the detector's coverage signal.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RefusedError
from pipeline.records import Float64s, Ints
from pipeline.scoring.matched_null import Compared, MatchedNull
from pipeline.scoring.precision_recall import Degenerate, PrecisionRecall, precision_recall
from pipeline.stages.coverage_report import (
    BELOW,
    CoverageReport,
    GroupLine,
    ImageRows,
    Plan,
    SegmentLine,
    ShownImage,
)
from pipeline.stages.coverage_words import findings, warnings
from pipeline.storage.coverage import SegmentSupport

_KEPT = 2 / 3  # of its normal coverage: what keeps more is not called lost
_MOST_SEGMENTS = 6  # with pictures


def compare(
    reference: ImageRows,
    production: ImageRows,
    plan: Plan,
    *,
    rng: np.random.Generator,
    traffic: Sequence[SegmentSupport] = (),
) -> CoverageReport:
    """Hold production against a reference.

    Raises RefusedError for fewer than k + 2 images and for a reference of equal images, UsageError for rows that
    are not finite or of another width.
    """
    x, y = (torch.from_numpy(np.ascontiguousarray(one.rows)).to(plan.device) for one in (reference, production))
    measured = precision_recall(x, y, a=plan.a, k=plan.k)
    if Degenerate.REFERENCE_EQUAL in measured.degenerate:
        raise RefusedError(
            f"{reference.name}: all {len(x)} rows are equal: nothing can be held against them; take other images"
        )
    null, why = _null(x, len(y), plan, rng)
    compared = None if null is None else null.compare(y)
    groups = () if null is None or compared is None else _groups(reference, null, compared)
    supports = measured.support.cpu().numpy()
    segments = _segments(production, supports, null, traffic if plan.is_usual else ())
    return CoverageReport(
        reference=reference.name,
        production=production.name,
        plan=plan,
        dimensions=x.shape[1],
        n_reference=len(x),
        n_production=len(y),
        distinct_share=production.distinct_share,
        outside=int((supports <= 0).sum()),
        measured=measured,
        compared=compared,
        window=None if null is None else null.window,
        groups=groups,
        segments=segments,
        traffic=tuple(traffic),
        least_covered=_least_covered(reference, measured, null, compared, groups, plan.pictures),
        least_supported=_least_supported(production, supports, segments, plan.pictures),
        findings=tuple(findings(measured, compared, groups)),
        warnings=tuple(warnings(reference, production, measured, compared, why)),
    )


def _null(x: Tensor, m: int, plan: Plan, rng: np.random.Generator) -> tuple[MatchedNull | None, str | None]:
    try:
        return MatchedNull(x, m, rng=rng, a=plan.a, k=plan.k), None
    except RefusedError as too_few:
        return None, str(too_few)


def _groups(reference: ImageRows, null: MatchedNull, compared: Compared) -> tuple[GroupLine, ...]:
    """The classes of the reference, the worst first."""
    classes = [reference.groups[row] for row in null.rows.tolist()]
    lines = []
    for name in sorted({one for one in classes if one is not None}):
        members = np.array([at for at, one in enumerate(classes) if one == name], np.int64)
        figure = null.of_group(compared.coverage, members)
        if figure is not None:
            lost = figure.z < BELOW and figure.value < _KEPT * figure.mean
            lines.append(GroupLine(name, len(members), figure, lost))
    return tuple(sorted(lines, key=lambda line: line.coverage.z))


def _segments(
    production: ImageRows, supports: Float64s, null: MatchedNull | None, traffic: Sequence[SegmentSupport]
) -> tuple[SegmentLine, ...]:
    """P-precision by segment, the least supported first: of all its images where that is stored, else of the rows."""
    found = {one.segment: one for one in traffic if one.mean_support is not None}
    flagged = {one.segment: one.flagged for one in traffic}
    lines = []
    for name in sorted({one for one in production.groups if one is not None} | set(found)):
        members = [at for at, one in enumerate(production.groups) if one == name]
        n, mean = len(members), float(supports[members].mean()) if members else 0.0
        if (stored := found.get(name)) is not None and stored.mean_support is not None:
            n, mean = stored.supported, stored.mean_support
        figure = None if null is None else null.of_mean_support(mean, n)
        lines.append(SegmentLine(name, n, mean, figure, flagged.get(name)))
    return tuple(sorted(lines, key=lambda line: line.p_precision))


def _least_covered(
    reference: ImageRows,
    measured: PrecisionRecall,
    null: MatchedNull | None,
    compared: Compared | None,
    groups: Sequence[GroupLine],
    pictures: int,
) -> tuple[ShownImage, ...]:
    """What has lost most of its normal coverage, of the whole reference and of each class that is lost."""
    if null is None or compared is None:
        coverage, normal = measured.coverage.cpu().numpy(), None
        rows: Ints = np.arange(len(coverage))
        order = np.argsort(coverage, kind="stable")
    else:
        coverage, normal, rows = compared.coverage, null.expected, null.rows
        order = np.argsort(coverage - normal, kind="stable")
    chosen = order[:pictures].tolist()
    for line in groups:
        if line.is_lost:
            chosen += [at for at in order.tolist() if reference.groups[rows[at]] == line.group][:pictures]
    return tuple(
        ShownImage(
            name=reference.names[rows[at]],
            group=reference.groups[rows[at]],
            value=float(coverage[at]),
            normal=None if normal is None else float(normal[at]),
            picture=reference.picture(int(rows[at])),
        )
        for at in dict.fromkeys(chosen)
    )


def _least_supported(
    production: ImageRows, supports: Float64s, segments: Sequence[SegmentLine], pictures: int
) -> tuple[ShownImage, ...]:
    """The least supported images, each content once, of the segments with least support."""
    names: list[str | None] = [line.segment for line in segments[:_MOST_SEGMENTS]]
    left = dict.fromkeys(names or [None], pictures)
    seen: set[bytes] = set()
    shown: list[ShownImage] = []
    for at in np.argsort(supports, kind="stable").tolist():
        segment = production.groups[at]
        content = production.hashes[at] if production.hashes else production.rows[at].tobytes()
        if left.get(segment, 0) and content not in seen:
            left[segment] -= 1
            seen.add(content)
            picture = production.picture(at)
            shown.append(ShownImage(production.names[at], segment, float(supports[at]), None, picture))
    return tuple(shown)
