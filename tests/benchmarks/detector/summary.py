"""What several results say together, against the published targets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks.detector.peers import OfPeer
from tests.benchmarks.detector.streams import FOUR, Regret


@dataclass(frozen=True)
class Target:
    """A figure of several results."""

    what: str
    value: float
    at_most: float

    @property
    def met(self) -> bool:
        """Whether it is as asked."""
        return self.value <= self.at_most


def of_regrets(regrets: Sequence[Regret]) -> Iterator[Target]:
    """Worst regret over the sizes, and the mean delays against log(ARL)/KL."""
    four = [one for one in regrets if one.share in FOUR]
    if four:
        yield Target("worst regret on 7/10/20/50 %, guaranteed", max(one.guaranteed_ratio for one in four), 1.40)
        yield Target("worst regret on 7/10/20/50 %, calibrated", max(one.calibrated_ratio for one in four), 1.30)
        yield Target("mean delay x KL / log ARL, worst of four", max(one.mean_over_bound for one in four), 1.0)
    if len(regrets) > len(four):
        yield Target("worst regret on all sizes, guaranteed", max(one.guaranteed_ratio for one in regrets), 1.45)


def against_adwin(regrets: Sequence[Regret], peers: Sequence[OfPeer]) -> Iterator[Target]:
    """Median delays over those of river's ADWIN at its default."""
    adwin = next((one for one in peers if (one.detector, one.setting) == ("ADWIN", "default")), None)
    if adwin is None:
        return
    for share, delay, at_most in ((0.1, adwin.to_10, 0.8), (0.2, adwin.to_20, 0.65), (0.5, adwin.to_50, 0.4)):
        own = next((one.guaranteed_median for one in regrets if one.share == share), None)
        if own is not None and delay is not None and delay[0]:
            yield Target(f"delay / ADWIN's at its default, to {share:.0%}", own / delay[0], at_most)
