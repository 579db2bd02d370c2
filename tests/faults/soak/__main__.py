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
from pathlib import Path

from tests.faults.soak.disk import may_mount
from tests.faults.soak.mutants import MUTANTS
from tests.faults.soak.report import Outcome, header, summary
from tests.faults.soak.runs import run, run_mutant
from tests.faults.soak.scenarios import BOTH, SCENARIOS
from tests.faults.soak.world import Services

_QUICK = 2_000
_MUTANT_RECORDS = 5_000


def main() -> int:
    """Run what was asked for; one line each."""
    arguments = _arguments()
    records = _QUICK if arguments.quick else arguments.records
    databases = BOTH if arguments.database == "both" else (arguments.database,)
    outcomes: list[Outcome] = []
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oodwatch-soak-")))
        services = Services(folder)
        try:
            if not arguments.json:
                print(header(), flush=True)  # noqa: T201
            for name in arguments.scenario or [*SCENARIOS, *(f"mutant: {name}" for name in MUTANTS)]:
                for kind in databases:
                    mutant = name.removeprefix("mutant: ")
                    scenario = SCENARIOS[MUTANTS[mutant].scenario if mutant in MUTANTS else name]
                    if kind not in scenario.databases:
                        continue
                    if scenario.small_disk and not may_mount():
                        _say(f"{name}: left out, it needs a mount, and only root may")
                        continue
                    _say(f"{name} on {kind}: {scenario.what}")
                    if mutant in MUTANTS:
                        size = min(records, _MUTANT_RECORDS)
                        outcome = run_mutant(services, mutant, kind, records=size, seed=arguments.seed)
                    else:
                        outcome = run(services, scenario, kind, records=records, seed=arguments.seed)
                    outcomes.append(outcome)
                    print(outcome.as_json() if arguments.json else outcome.as_text(), flush=True)  # noqa: T201
        finally:
            services.close()
    totals = summary(outcomes)
    if arguments.json:
        print(json.dumps({"summary": totals}))  # noqa: T201
    else:
        print("\n".join(f"{what}: {value}" for what, value in totals.items()))  # noqa: T201
    return int(not all(outcome.passed for outcome in outcomes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {scenario.name:<24} {scenario.what}" for scenario in SCENARIOS.values()),
    )
    names = [*SCENARIOS, *(f"mutant: {name}" for name in MUTANTS)]
    parser.add_argument("--scenario", nargs="+", choices=names, metavar="NAME", help="default: all, and all mutants")
    parser.add_argument("--database", choices=[*BOTH, "both"], default="both")
    parser.add_argument("--records", type=int, default=20_000, help="a run (default 20000); mutants at most 5000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK:,} records a run")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep databases and the workers' output there")
    parser.add_argument("--json", action="store_true", help="JSON lines")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
