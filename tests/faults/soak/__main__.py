"""Break everything under load, then account for every record.

    python -m tests.faults.soak --scenario kills --database postgres --records 20000

Oracle: every (topic id, partition, offset, sha256) that the log acknowledged, and an independent read of
the log, against the rows, dead letters and gaps in the database. Exit 1 if anything is lost, unread,
duplicated, alien or unaccounted for, or if a mutant is not caught.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from tests.faults.soak.disk import may_mount
from tests.faults.soak.mutants import MUTANTS
from tests.faults.soak.report import Outcome, header, summary
from tests.faults.soak.runs import run
from tests.faults.soak.scenarios import BOTH, SCENARIOS, Kind, Scenario
from tests.faults.soak.world import Services

_QUICK = 2_000
_MUTANT_RECORDS = 5_000
_MUTANT = "mutant: "


def main() -> int:
    """Run what was asked for; one line each."""
    arguments = _arguments()
    records = _QUICK if arguments.quick else arguments.records
    outcomes: list[Outcome] = []
    broken = 0
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oodwatch-soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # a server that may not run as root keeps its data below it
        services = Services(folder)
        stack.callback(services.close)
        if not arguments.json:
            _print(header())
        for name, kind in _wanted(arguments):
            try:
                outcome = _run(services, name, kind, records, arguments.seed)
            except Exception:  # the other runs are still worth having
                traceback.print_exc()
                broken += 1
                continue
            outcomes.append(outcome)
            _print(outcome.as_json() if arguments.json else outcome.as_text())
    totals = summary(outcomes) | {"runs that could not be made": broken}
    _print(json.dumps(totals) if arguments.json else "\n".join(f"{what}: {value}" for what, value in totals.items()))
    return int(bool(broken) or not all(outcome.passed for outcome in outcomes))


def _wanted(arguments: argparse.Namespace) -> Iterator[tuple[str, Kind]]:
    databases: tuple[Kind, ...] = BOTH if arguments.database == "both" else (arguments.database,)
    for name in arguments.scenario or _names():
        scenario = _scenario_of(name)
        if scenario.small_disk and not may_mount():
            _say(f"{name}: left out, it needs a small disk, and only root may mount one")
            continue
        for kind in databases:
            if kind in scenario.databases:
                yield name, kind


def _run(services: Services, name: str, kind: Kind, records: int, seed: int) -> Outcome:
    scenario = _scenario_of(name)
    _say(f"{name} on {kind}: {scenario.what}")
    mutant = name.removeprefix(_MUTANT) if name.startswith(_MUTANT) else None
    size = records if mutant is None else min(records, _MUTANT_RECORDS)
    return run(services, scenario, kind, records=size, seed=seed, mutant=mutant)


def _names() -> list[str]:
    return [*SCENARIOS, *(_MUTANT + name for name in MUTANTS)]


def _scenario_of(name: str) -> Scenario:
    """A mutant is shown to the scenario that must notice it."""
    return SCENARIOS[MUTANTS[name.removeprefix(_MUTANT)].scenario if name.startswith(_MUTANT) else name]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {scenario.name:<24} {scenario.what}" for scenario in SCENARIOS.values()),
    )
    parser.add_argument("--scenario", nargs="+", choices=_names(), metavar="NAME", help="default: all, and all mutants")
    parser.add_argument("--database", choices=[*BOTH, "both"], default="both")
    parser.add_argument("--records", type=int, default=20_000, help="a run (default 20000); mutants at most 5000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK:,} records a run")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep databases and the workers' output there")
    parser.add_argument("--json", action="store_true", help="JSON lines")
    return parser.parse_args()


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
