"""Figures of region of strangeness: python -m tests.benchmarks.explain [--quick] [--large] [--json].

Ends with 1 where one of them is not what it should be.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from tests.benchmarks.explain.figures import Figure, independence, note, numerics, objects, refusals, speed


def _figures(*, quick: bool, large: bool) -> Iterator[Figure]:
    note("numerics")
    yield from numerics()
    yield from independence()
    note("foreign objects")
    yield from objects(range(1 if quick else 5))
    note("speed")
    yield from speed(large=large)
    note("refusals")
    yield from refusals()


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.explain", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one network of foreign objects instead of five")
    parser.add_argument("--large", action="store_true", help="also a random model of SAM-B's size (2 GB, a minute)")
    parser.add_argument("--json", action="store_true", help="JSON lines")
    asked = parser.parse_args()
    all_met = True
    for figure in _figures(quick=asked.quick, large=asked.large):
        all_met &= figure.is_met
        if asked.json:
            line = json.dumps(asdict(figure))
        else:
            met = "" if figure.target == "published" else "ok" if figure.is_met else "MISSED"
            line = f"({figure.number}) {figure.name}: {figure.value}   [{figure.target}] {met}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main())
