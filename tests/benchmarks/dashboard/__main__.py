"""The dashboard over ten million scores of two weeks: every published figure, by one command.

    python -m tests.benchmarks.dashboard                      # both databases; half an hour, most of it filling
    python -m tests.benchmarks.dashboard --database sqlite --keep DIR
    python -m tests.benchmarks.dashboard --scores 100000      # in little

Exit 1 where a target is missed. Time is that of the server's process where nothing else is said; the browser's is
reported apart.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.benchmarks.coverage.check import Check
from tests.benchmarks.dashboard import filling, measuring
from tests.benchmarks.services import postgres_database


def main() -> int:
    """Print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--scores", type=int, default=10_000_000, metavar="N")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="the SQLite file stays there and is taken again")
    arguments = parser.parse_args()
    missed = 0
    with contextlib.ExitStack() as stack:
        home = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oodwatch-pages-")))
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)  # a server that may not run as root keeps its data below it
        for kind, url in _databases(arguments.database, home, stack):
            if not url.startswith("sqlite") or not (home / "pages.db").exists():
                began = time.monotonic()
                filling.fill(url, arguments.scores)
                _say(f"{kind}: {arguments.scores:,} scores", f"filled in {time.monotonic() - began:.0f} s")
            missed += _print(kind, measuring.figures(url))
    return int(missed > 0)


def _databases(wanted: str, home: Path, stack: contextlib.ExitStack) -> Iterator[tuple[str, str]]:
    if wanted in ("sqlite", "both"):
        yield "SQLite", f"sqlite:///{home / 'pages.db'}"
    if wanted in ("postgres", "both"):
        yield "PostgreSQL", stack.enter_context(postgres_database(home))


def _print(kind: str, checks: Iterable[Check]) -> int:
    missed = 0
    for check in checks:
        missed += check.holds is False
        print(f"{kind}: {check}", flush=True)  # noqa: T201
    return missed


def _say(what: str, found: str) -> None:
    print(f"{what}: {found}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
