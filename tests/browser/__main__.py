"""Serve the dashboard over seeded data, for tests and to look at: python -m tests.browser [FILE] [--state quiet]"""

import argparse
from datetime import datetime, timedelta
from pathlib import Path

from dashboard.board import Board
from dashboard.serving import Place, serve
from pipeline.assembly.deciding import Operator
from pipeline.assembly.proposing import Proposals
from pipeline.settings import load_settings
from pipeline.storage.read_only import open_read_only
from tests.browser.seeded import NOW, seed


def main() -> None:
    """Its clock stands still at the moment of the scene."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=Path("board.db"), help="seeded where it does not exist")
    parser.add_argument("--state", choices=("incident", "quiet"), default="incident")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--minutes-later", type=float, default=0, help="how long nothing has come")
    given = parser.parse_args()
    url = f"sqlite:///{given.file}"
    if not given.file.exists():
        seed(url, state=given.state)

    def clock() -> datetime:
        return NOW + timedelta(minutes=given.minutes_later)

    board = Board(
        open_read_only(url),
        clock,
        levels=(0.1, 0.25),
        budget_days=30,
        silent_after=timedelta(seconds=40),
        actions=Operator(load_settings(database=url), clock),
        preparing=Proposals(load_settings(database=url)),
        login="robin",
    )
    serve(board, Place(port=given.port), say=print)


if __name__ == "__main__":
    main()
