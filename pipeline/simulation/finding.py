"""How long a change of traffic goes unnoticed, and which signal notices it first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Float64s
from pipeline.simulation.damage import Change
from pipeline.simulation.fleet import Fleet, Log

OF_SEGMENT = " of a segment"


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """When R deployments first raised something, in minutes from the change, the tick of which counts; inf: never."""

    firsts: dict[str, Float64s]  # (R,) by signal; all traffic and segments apart
    right: Float64s  # (R,) the first stream of a changed segment

    @property
    def delays(self) -> Float64s:
        """(R,): of the first signal."""
        earliest: Float64s = np.min(list(self.firsts.values()), axis=0)
        return earliest

    def right_segment(self) -> float | None:
        """How often the first segment to be raised is a changed one; None where no segment was."""
        of_segments = [values for name, values in self.firsts.items() if name.endswith(OF_SEGMENT)]
        if not of_segments:
            return None
        first = np.min(of_segments, axis=0)
        raised = np.isfinite(first)
        return float((self.right[raised] == first[raised]).mean()) if raised.any() else None

    def quantiles(self) -> tuple[float, float]:
        """Median and 95 % quantile, as order statistics."""
        return quantiles(self.delays)

    def first_signal(self) -> tuple[str, float]:
        """The signal that is most often the first, and in which share of the deployments; the first of equals."""
        names, delays = list(self.firsts), self.delays
        found = np.flatnonzero(np.isfinite(delays))
        if not len(found):
            return "", 0.0
        which = np.argmin([self.firsts[name][found] for name in names], axis=0)
        index, count = Counter(which.tolist()).most_common(1)[0]
        return names[index], count / len(found)


def quantiles(delays: Float64s) -> tuple[float, float]:
    """Median and 95 % as order statistics of (R,) delays: the smallest that so many do not exceed."""
    ordered = np.sort(delays)
    median, most = (float(ordered[int(np.ceil(q * len(ordered))) - 1]) for q in (0.5, 0.95))
    return median, most


def find(fleet: Fleet, changes: Sequence[Change], limit: int, *, enough: float = 1.0) -> Finding:
    """Let changes happen from the fleet's next tick on, until deployments have raised something.

    Args:
        limit: ticks after which a change counts as never found.
        enough: the share of the deployments after which the rest need not be waited for.
    """
    start, firsts = fleet.tick, dict[str, Float64s]()
    size = len(fleet.population)
    right = np.full(size, np.inf)
    changed = sorted({s for change in changes for s in change.segments or ()})
    step = 20  # few at first: most changes are found within minutes
    while fleet.tick - start < limit:
        first = fleet.tick
        for log in fleet.run(min(step, limit - (fleet.tick - start)), changes):
            for name, raised in _by_part(log).items():
                at = firsts.setdefault(name, np.full(size, np.inf))
                np.minimum(at, _first(raised, first - start, fleet.minutes), out=at)
            for of_segments in (raised[:, 1:] for raised in log.raised.values() if raised.shape[1] > 1):
                of_changed: NDArray[np.bool_] = np.any(of_segments[:, changed], axis=1)
                np.minimum(right, _first(of_changed, first - start, fleet.minutes), out=right)
            first += len(log)
        if np.isfinite(np.min(list(firsts.values()), axis=0)).mean() >= enough:
            break
        step = min(2 * step, 200)
    return Finding(firsts, right)


def _by_part(log: Log) -> dict[str, NDArray[np.bool_]]:
    """(T, R) by signal, all traffic and segments apart."""
    parts: dict[str, NDArray[np.bool_]] = {}
    for name, raised in log.raised.items():
        parts[name] = raised[:, 0]
        if raised.shape[1] > 1:
            parts[f"{name}{OF_SEGMENT}"] = np.any(raised[:, 1:], axis=1)
    return parts


def _first(raised: NDArray[np.bool_], ticks_before: int, minutes: float) -> Float64s:
    """(R,): minutes until the first of (T, R), inf where there is none."""
    return np.where(raised.any(axis=0), (ticks_before + raised.argmax(axis=0) + 1) * minutes, np.inf)
