"""Roll-ups as another reference would have counted them: flags and histogram from the 256 fine bins.

A fine bin that a threshold or an edge cuts is shared out in proportion; on the fine edges the counts are exact.
"""

from typing import TypeVar

import numpy as np

from pipeline.errors import RefusedError
from pipeline.records import Float64s, Ints, Reference
from pipeline.shift.rollup import RollUp
from pipeline.shift.snapshot import fingerprint
from pipeline.shift.tick import Counts

Array = TypeVar("Array", Float64s, Ints)


def counts_up_to(fine_histogram: Ints, fine_edges: Float64s, at: Float64s) -> Float64s:
    """Images with a score of at most each `at`, which must lie within the fine edges."""
    return np.interp(at, fine_edges, np.cumsum(fine_histogram[:-1]).astype(np.float64))


class Recount:
    """Counts of one reference's roll-ups under another one's threshold and edges.

    Raises RefusedError where the two scores are not the same, or the fine bins do not reach far enough.
    """

    def __init__(self, of: Reference, by: Reference) -> None:
        _require_same_score(of, by)
        _require_reach(of, by)
        self.of = of
        self._by = by
        self.same_features = _equal(of.projection, by.projection) and _equal(of.feature_mean, by.feature_mean)
        self._exact = of.threshold == by.threshold
        self._same_edges = _equal(of.edges, by.edges)
        self._cut = int(np.searchsorted(of.fine_edges, by.threshold, side="left"))
        self.images = 0
        self.uncertain = 0  # images in the bin that the threshold cuts: at most so many flags are wrong

    def __call__(self, sums: RollUp, *, pooled: bool) -> Counts:
        """The same images; flags and histogram are fractional. Classes and features of all traffic only."""
        fine, edges = sums.fine_histogram, self.of.fine_edges
        flags = float(sums.n - counts_up_to(fine, edges, np.array([self._by.threshold]))[0])
        if pooled:
            self.images += sums.n
            self.uncertain += 0 if self._exact else int(fine[self._cut])
        with_features = pooled and self.same_features
        return Counts(
            n=sums.n,
            flags=sums.flags if self._exact else flags,
            histogram=self._histogram(sums),
            class_counts=sums.class_counts if pooled else None,
            z_n=sums.z_n if with_features else 0,
            z_sum=sums.z_sum if with_features else None,
            z_outer=sums.z_outer if with_features else None,
        )

    def _histogram(self, sums: RollUp) -> Float64s:
        if self._same_edges:
            return sums.histogram.astype(np.float64)
        below = counts_up_to(sums.fine_histogram, self.of.fine_edges, self._by.edges)
        histogram: Float64s = np.diff(below, prepend=0.0, append=float(sums.n))
        return histogram


def added(a: Counts, b: Counts) -> Counts:
    """The counts of both, which are of all traffic or of the same segment."""
    return Counts(
        n=a.n + b.n,
        flags=a.flags + b.flags,
        histogram=_sum(a.histogram, b.histogram),
        class_counts=_sum(a.class_counts, b.class_counts),
        z_n=a.z_n + b.z_n,
        z_sum=_sum(a.z_sum, b.z_sum),
        z_outer=_sum(a.z_outer, b.z_outer),
    )


def _sum(a: Array | None, b: Array | None) -> Array | None:
    return b if a is None else a if b is None else a + b


def _require_same_score(of: Reference, by: Reference) -> None:
    for what in ("model_id", "score_name", "temperature", "dtype", "decoder"):
        if (has := getattr(of, what)) != (other := getattr(by, what)):
            raise RefusedError(
                f"ticks of reference {of.name} cannot be judged by {by.name}: {what} is {has!r} there and {other!r}"
                " here, so that scores mean something else; replay each with its own"
            )
    if fingerprint(of.residual) != fingerprint(by.residual):
        raise RefusedError(
            f"ticks of reference {of.name} cannot be judged by {by.name}: their spaces of normal features differ, so"
            " that scores mean something else; replay each with its own"
        )


def _require_reach(of: Reference, by: Reference) -> None:
    low, high = float(of.fine_edges[0]), float(of.fine_edges[-1])
    for what, value in (("threshold", by.threshold), *(("edge of the histogram", edge) for edge in by.edges.tolist())):
        if not low <= value <= high:
            raise RefusedError(
                f"ticks of reference {of.name} cannot be judged by {by.name}: its {what} {value:g} lies outside of"
                f" {low:g} to {high:g}, where scores were counted in fine bins; replay each with its own"
            )


def _equal(a: Float64s, b: Float64s) -> bool:
    return bool(np.array_equal(a, b))
