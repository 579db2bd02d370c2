"""Coverage: every published figure, by one command.

    python -m tests.benchmarks.coverage                       # all; some minutes
    python -m tests.benchmarks.coverage --only withdrawn --pages DIR

Exit 1 where something is not as it must be. What needs the vectors or the evaluation images says so where they
are not beside the repository.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.benchmarks.coverage import figures, refused, withdrawn
from tests.benchmarks.coverage.check import Check

PARTS = ("authors", "large", "stored", "made_up", "refused", "withdrawn")


def main() -> int:
    """Print a line a check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--pages", type=Path, help="where to write a report of each kind of window")
    arguments = parser.parse_args()
    names = arguments.only or PARTS
    if len(names) == 1:
        return _run(names[0], arguments.pages)
    options = [] if arguments.pages is None else ["--pages", str(arguments.pages)]
    # A process each: what one has used says nothing of another's memory.
    alone = [[sys.executable, "-m", "tests.benchmarks.coverage", "--only", name, *options] for name in names]
    return max(subprocess.run(command, check=False).returncode for command in alone)


def _run(name: str, pages: Path | None) -> int:
    with tempfile.TemporaryDirectory(prefix="oodwatch-coverage-") as folder:
        home = Path(folder)
        parts: dict[str, Callable[[], Iterable[Check]]] = {
            "authors": figures.authors,
            "large": figures.large,
            "stored": lambda: refused.stored(home),
            "made_up": figures.made_up,
            "refused": lambda: refused.refused(home),
            "withdrawn": lambda: withdrawn.withdrawn(home, pages=pages),
        }
        missed = 0
        try:
            for check in parts[name]():
                missed += check.holds is False
                print(check, flush=True)  # noqa: T201
        except pytest.skip.Exception as skipped:
            print(f"{name}: skipped: {skipped}", flush=True)  # noqa: T201
        return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
