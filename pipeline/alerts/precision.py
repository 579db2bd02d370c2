"""Were the alerts right? What people said of flagged images → the share of past incidents that were a real shift."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Self

from pipeline.shift.threshold import clopper_pearson

#: A real shift; chance, as an odd image of normal traffic; an image that should never have been sent.
Verdict = Literal["shift", "noise", "bad_input"]
VERDICTS: tuple[Verdict, ...] = ("shift", "noise", "bad_input")


class Judged(NamedTuple):
    """A flagged image that a person looked at."""

    segment: str
    event_time: datetime
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Raised:
    """Which images an incident is about: onset <= event time < end."""

    onset: datetime
    end: datetime | None  # None: it is open
    segments: frozenset[str]  # empty: all traffic

    @classmethod
    def of(cls, onset: datetime, end: datetime | None, segments: Iterable[str]) -> Self:
        """By the segments of its alerts: where some are about single ones, those of all traffic do not count."""
        return cls(onset, end, frozenset(segments) - {""})

    def is_about(self, image: Judged) -> bool:
        """Whether the image belongs to it."""
        in_time = self.onset <= image.event_time and (self.end is None or image.event_time < self.end)
        return in_time and (not self.segments or image.segment in self.segments)


class Share(NamedTuple):
    """k of n with its 95 % interval by Clopper and Pearson, of (0, 1) where n is 0."""

    k: int
    n: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Precision:
    """How often it was a real shift."""

    incidents: Share  # of those of which most images say the same: were real
    images: Share  # of flagged images that were looked at: real. Those of one incident are alike: its interval is
    # too narrow where few incidents gave many images


def counts(judged: Iterable[Judged]) -> dict[Verdict, int]:
    """How many of each, in the order of VERDICTS."""
    found = dict.fromkeys(VERDICTS, 0)
    for image in judged:
        found[image.verdict] += 1
    return found


def precision(raised: Iterable[Raised], judged: Sequence[Judged]) -> Precision:
    """An incident was real where more of its judged images are a real shift than are not; a tie says nothing."""
    real = untrue = 0
    for incident in raised:
        own = counts(image for image in judged if incident.is_about(image))
        others = own["noise"] + own["bad_input"]
        real += own["shift"] > others
        untrue += own["shift"] < others
    return Precision(_share(real, real + untrue), _share(counts(judged)["shift"], len(judged)))


def _share(k: int, n: int) -> Share:
    low, high = clopper_pearson(k, n) if n else (0.0, 1.0)
    return Share(k, n, low, high)
