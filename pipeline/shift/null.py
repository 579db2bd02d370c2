"""What the detector takes for normal traffic: the reference's numbers, and an accepted baseline where there is one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from pipeline.errors import RefusedError
from pipeline.records import CoverageReference, Float64s, Reference
from pipeline.shift.baseline import DISPERSION_DAYS, Baseline, HistogramBets
from pipeline.shift.budget import Thresholds
from pipeline.shift.coverage import MOST_DISPERSED
from pipeline.shift.hours import hour_of
from pipeline.shift.signals import (
    ClassBounds,
    HistogramLibrary,
    RateBounds,
    class_bounds,
    histogram_library,
)
from pipeline.shift.threshold import (
    HISTOGRAM_NEEDS,
    NO_ALERTS_BELOW,
    PROVISIONAL_BELOW,
    RECOMMENDED,
    conformal_rank,
    flag_rate_bounds,
)

_FOREVER = 1_000_000  # images: a null that is too high with so many is too high with any number


@dataclass(frozen=True, slots=True, eq=False)
class Premise:
    """What holds of the flags in one tick, fixed before they are seen; S segments."""

    q: Float64s  # (S,) bound of the flag rate
    d: Float64s  # (S,)
    d_pooled: float
    low: float  # p0⁻ of all traffic
    rate: RateBounds | None


@dataclass(frozen=True, slots=True, eq=False)
class Null:
    """Normal traffic as far as n calibration images and, perhaps, accepted ticks tell."""

    n: int
    rank: int  # m
    alpha: float
    p0_low: float
    p0_high: float
    classes: ClassBounds | None = None  # None: the class mix is not watched
    coverage: CoverageReference | None = None  # None: coverage is not watched
    baseline: Baseline | None = None
    histogram: HistogramLibrary | None = field(init=False)  # None below 1,000 images

    def __post_init__(self) -> None:
        library = histogram_library(self.n) if self.n >= HISTOGRAM_NEEDS else None
        object.__setattr__(self, "histogram", library)

    @classmethod
    def from_reference_numbers(cls, n: int, target_fpr: float) -> "Null":
        """From the numbers alone. Raises RefusedError where n images cannot make such a threshold."""
        rank = conformal_rank(n, target_fpr)
        return cls(n, rank, target_fpr, *flag_rate_bounds(n, rank))

    @classmethod
    def from_reference(cls, reference: Reference) -> "Null":
        """From a reference; its classes and features count where it was declared representative."""
        representative = reference.representative
        return cls(
            n=reference.n,
            rank=reference.rank,
            alpha=reference.target_fpr,
            p0_low=reference.p0_low,
            p0_high=reference.p0_high,
            classes=class_bounds(reference.class_counts) if representative else None,
            coverage=reference.coverage if representative else None,
        )

    def with_baseline(self, baseline: Baseline) -> "Null":
        """The same with accepted traffic, whose classes and blocks replace the reference's."""
        coverage = baseline.coverage
        if coverage is None and self.coverage is not None and baseline.pooled.d <= MOST_DISPERSED:
            coverage = self.coverage  # bootstrap blocks of single images hold for traffic that is as independent
        return replace(
            self,
            classes=self.classes if baseline.classes is None else baseline.classes.bounds,
            coverage=coverage,
            baseline=baseline,
        )

    @property
    def d_classes(self) -> float:
        """D_C: 1 until it is known."""
        return 1.0 if self.baseline is None or self.baseline.classes is None else self.baseline.classes.d

    @property
    def learning(self) -> bool:
        """Too few calibration images to raise anything."""
        return self.n < NO_ALERTS_BELOW

    @property
    def provisional(self) -> bool:
        """What is raised is shown and never paged: few calibration images, or a dispersion not known yet."""
        return self.n < PROVISIONAL_BELOW or self.baseline is None or self.baseline.days < DISPERSION_DAYS

    def premise(self, start: datetime, segments: Sequence[str]) -> Premise:
        """Bounds for a tick that starts then: q = max(p0⁺, the baseline's hour).

        p0⁺ and the pooled D for segments that were not accepted.
        """
        count = len(segments)
        if self.baseline is None:
            return Premise(np.full(count, self.p0_high), np.ones(count), 1.0, self.p0_low, None)
        week, hour = hour_of(start)
        pooled = self.baseline.pooled
        q, d = np.full(count, self.p0_high), np.full(count, pooled.d)
        for i, name in enumerate(segments):
            own = self.baseline.of(name)
            if own is not None:
                q[i], d[i] = max(self.p0_high, own.high[hour]), own.d
        low = min(self.p0_low, float(pooled.low[hour]))
        return Premise(q, d, pooled.d, low, self.baseline.rates[week])

    def bets(self, segments: Sequence[str]) -> tuple[Float64s, Float64s]:
        """What the histogram's components pay per image and are divided by, (1 + S, J): all traffic, then each segment.

        Raises ValueError where there is no histogram.
        """
        if self.histogram is None:
            raise ValueError(f"{self.n} calibration images make no histogram")
        least = self.histogram.penalty
        if self.baseline is None or (pooled := self.baseline.pooled.bets) is None:
            d = 1.0 if self.baseline is None else self.baseline.pooled.d
            return np.tile(least, (1 + len(segments), 1)), np.full((1 + len(segments), len(least)), d)
        unknown = HistogramBets(least, pooled.divisor)
        own = (None if one is None else one.bets for one in map(self.baseline.of, segments))
        each = [pooled, *(unknown if one is None else one for one in own)]
        return np.stack([one.penalty for one in each]), np.stack([one.divisor for one in each])

    def check(self, thresholds: Thresholds) -> None:
        """Raises RefusedError where normal traffic may reach the warning level, with what would help."""
        warn = thresholds.warning
        if self.p0_high >= warn:
            raise RefusedError(
                f"with {self.n:,} calibration images at a target of {self.alpha:.3g}, normal traffic may be flagged up"
                f" to {self.p0_high:.4f}, which reaches the warning level {warn:g}: {_images_cure(self.alpha, warn)}"
            )
        if self.baseline is None:
            return
        for name, one in self.baseline.segments.items():
            if one.high.max() >= warn:
                raise RefusedError(
                    f"the accepted baseline has up to {one.high.max():.4f} of segment {name!r} flagged, which reaches"
                    f" the warning level {warn:g}: set that higher, or calibrate anew on images like these"
                )


def _images_cure(alpha: float, warn: float) -> str:
    n = images_needed(alpha, warn)
    if n is None:
        return f"no number of images would do; set the warning level well above {alpha:g}, or the target lower"
    return f"at least {n:,} images are needed, {RECOMMENDED:,} are recommended"


def images_needed(alpha: float, warn: float) -> int | None:
    """The n from which p0⁺(n, α) stays below the warning level; None where no number of images would do."""
    period = math.ceil(1 / alpha)  # p0⁺ falls like the teeth of a saw, one a rank

    def stays_below(n: int) -> bool:
        return all(flag_rate_bounds(i, conformal_rank(i, alpha))[1] < warn for i in range(n, n + period + 1))

    low = high = max(math.ceil(1 / alpha - 1 - 1e-9), 1)
    while not stays_below(high):
        low, high = high, 2 * high
        if high > _FOREVER:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if stays_below(middle) else (middle + 1, high)
    return high
