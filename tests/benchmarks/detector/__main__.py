"""The detector's published table: `make bench-detector`, or python -m tests.benchmarks.detector --delays --json.

Seeds are fixed: the same command gives the same figures, but for the speed. Every simulated deployment draws its own
calibration. Medians and 95 % are order statistics, bounds of rates are Poisson's 95 %, of shares Clopper-Pearson's.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.detector import delays, months, peers, rules, speed, stored, streams
from tests.benchmarks.detector.report import Result, as_json, as_text, met
from tests.benchmarks.detector.summary import against_adwin, of_regrets

SEED = 10_000


@dataclass(frozen=True)
class Effort:
    """How much is simulated."""

    deployments: int  # of normal traffic, and
    months: float  # of each
    runs: int  # of a change
    image_runs: int  # of a change, image by image
    length: int  # thousands of images, for the run length of the guaranteed detector
    sizes: tuple[float, ...]
    clean: int  # images for the false alarms of peers
    peer_runs: int
    peer_seconds: float
    old: int  # ticks of the old detector
    stored: int  # repetitions of a monitor over a year of rows


FULL = Effort(20, 6, 300, 2_000, 50_000, streams.TEN, 5_000_000, 100, 120, 525_600, 5)
#: For machines that check every change.
QUICK = Effort(2, 3, 40, 60, 5_000, streams.FOUR, 100_000, 20, 10, 10 * 1_440, 1)


def _months(effort: Effort, wanted: list[str], *, quick: bool) -> Iterator[Result]:
    cases = [case for case in months.cases() if any(text in case.name for text in wanted)]
    if quick:
        cases = [case for case in cases if case.name.startswith("N1")]
    for group in months.side_by_side(cases):
        yield from months.measure(group, deployments=effort.deployments, months=effort.months, seed=SEED, note=_note)


def _delays(effort: Effort, wanted: list[str]) -> Iterator[Result]:
    for index, case in enumerate(delays.cases()):
        if any(text in case.name for text in wanted):
            costly = case.accepted_days or case.traffic.segments > 5
            yield delays.measure(case, deployments=effort.runs // 3 if costly else effort.runs, seed=SEED + index)
    if any(text in "S6 incident" for text in wanted):
        yield delays.incident(runs=effort.runs, seed=SEED)
    if any(text in "S7 graded" for text in wanted):
        for share in (0.06, 0.07, 0.08, 0.09, 0.10, 0.12, 0.15, 0.20, 0.25, 0.30, 0.50):
            yield delays.graded(share, runs=effort.runs, seed=SEED)


def _images(effort: Effort) -> Iterator[streams.Regret]:
    runs = 2_000
    alarms, images = streams.run_length(
        streams.e_sr(runs, 1e6), runs, effort.length * 1_000 // runs, np.random.default_rng(SEED)
    )
    for index, share in enumerate(effort.sizes):
        yield streams.regret(share, runs=effort.image_runs, seed=SEED + index, length=images / max(alarms, 1))


def _rules(effort: Effort) -> Iterator[Result]:
    for n in (5, 60):
        for rule in rules.RULES:
            count = max(2, round(effort.months * 2))
            yield rules.measure(rule, images_per_minute=n, months=count, runs=effort.runs, seed=SEED)


def _peers(effort: Effort, wanted: list[str]) -> Iterator[peers.OfPeer]:
    length = effort.length * 1_000
    for mean, change in ((1e6, streams.CHANGE), (1e3, 150)):
        yield peers.own(mean, change=change, runs=effort.image_runs, length=length, seed=SEED)
    for library in peers.LIBRARIES:
        if not any(text in library for text in wanted):
            continue
        online = library == "alibi-detect"  # two milliseconds an image, and a false alarm in a thousand by design
        yield from peers.measure(
            library,
            clean=30_000 if online else effort.clean,
            runs=25 if online else effort.peer_runs,
            seconds=5 * effort.peer_seconds if online else effort.peer_seconds,
            seed=SEED,
        )


def _speed(effort: Effort) -> Iterator[Result]:
    yield from speed.wide_tick()
    yield speed.old_over_new(effort.old)
    yield stored.year_over_day(effort.stored)


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


def results(arguments: argparse.Namespace) -> Iterator[Result]:
    """All that was asked for, one after the other."""
    effort: Effort = QUICK if arguments.quick else FULL
    sections = ("speed", "delays", "images", "rules", "months", "peers")
    chosen = {name for name in sections if getattr(arguments, name)} or set(sections)
    if "speed" in chosen:
        yield from _speed(effort)
    if "delays" in chosen:
        yield from _delays(effort, arguments.cases)
    if "rules" in chosen:
        yield from _rules(effort)
    regrets: list[streams.Regret] = []
    if "images" in chosen:
        for one in _images(effort):
            regrets.append(one)
            yield one
        yield from of_regrets(regrets)
    if "months" in chosen:
        yield from _months(effort, arguments.cases, quick=arguments.quick)
    if "peers" in chosen:
        found: list[peers.OfPeer] = []
        for peer in _peers(effort, arguments.cases):
            found.append(peer)
            yield peer
        yield from against_adwin(regrets, found)


def main() -> int:
    """Print the chosen lines; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", action="store_true", help="what a tick costs")
    parser.add_argument("--delays", action="store_true", help="S1 to S7: minutes until shifts are found")
    parser.add_argument("--images", action="store_true", help="image by image, against CUSUMs that know the shift")
    parser.add_argument("--rules", action="store_true", help="limits on each minute's flags")
    parser.add_argument("--months", action="store_true", help="N1 to N9: false raises of normal traffic (hours)")
    parser.add_argument("--peers", action="store_true", help="other libraries, each in an environment of its own")
    parser.add_argument("--cases", nargs="+", default=[""], metavar="TEXT", help="of --delays, --months, --peers")
    parser.add_argument("--quick", action="store_true", help="fewer runs, no matched peers: minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    missed = 0
    for result in results(arguments):
        missed += met(result) is False
        sys.stdout.write((as_json(result) if arguments.json else as_text(result)) + "\n")
        sys.stdout.flush()
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
