"""What a person promises and asks: how rare false alarms are, and which flagged shares matter."""

import math
from dataclasses import dataclass, field

from pipeline.errors import UsageError

MINUTES_PER_DAY = 1_440


@dataclass(frozen=True, slots=True)
class Shares:
    """π: how much of the budget each signal may spend. Fixed: what a signal leaves unspent stays unspent."""

    pooled: float = 0.35
    segments: float = 0.35
    histogram: float = 0.075
    histogram_segments: float = 0.075
    classes: float = 0.05
    low: float = 0.025
    coverage: float = 0.025
    rate: float = 0.025
    silence: float = 0.025

    def __post_init__(self) -> None:
        values = [getattr(self, name) for name in self.__slots__]
        if min(values) <= 0 or sum(values) > 1 + 1e-9:
            raise UsageError(
                f"shares of the budget {values}: each must be above 0, their sum {sum(values):g} at most 1"
            )


@dataclass(frozen=True, slots=True)
class Budget:
    """A and N: mean minutes, and effective images, between two false alarms of all signals together.

    The reverse pair is the same for a wrong step down.
    """

    minutes: float = 43_200
    images: float = 100_000
    reverse_minutes: float = 1_440
    reverse_images: float = 1_000
    shares: Shares = field(default_factory=Shares)

    def __post_init__(self) -> None:
        for name in ("minutes", "images", "reverse_minutes", "reverse_images"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"the false-alarm budget's {name} = {value:g}: must be a number above 0")

    def log_threshold(self, signal: str) -> float:
        """log(A/π): a signal is over from this log evidence on."""
        return math.log(self.minutes / getattr(self.shares, signal))

    @property
    def log_reverse(self) -> float:
        """log A_r: a step down is due from this log evidence on."""
        return math.log(self.reverse_minutes)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which share of flagged images since the onset makes a shift a warning, and critical."""

    warning: float = 0.10
    critical: float = 0.25
    #: Effective images since the onset that both need: a null of 5 % alarms on five or six flags in a row.
    images: float = 5

    def __post_init__(self) -> None:
        if not 0 < self.warning < self.critical <= 1:
            raise UsageError(
                f"warning level {self.warning:g} and critical level {self.critical:g}: give shares of flagged images"
                " with 0 < warning < critical <= 1, as 0.10 and 0.25"
            )
