"""Serve the dashboard over seeded data, for tests and to look at: python -m tests.browser [DATABASE] [--state quiet]"""

import argparse
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import Engine

from dashboard.board import Board
from dashboard.originals import Expired, Original
from dashboard.serving import Place, serve
from pipeline.assembly.deciding import Operator
from pipeline.assembly.proposing import Proposals
from pipeline.ingest.thumbnail import as_png
from pipeline.settings import load_settings
from pipeline.storage.explanations import sampled_image
from pipeline.storage.read_only import open_read_only
from tests.browser.seeded import NOW, seed


class Enlarged:
    """Stands in for a log: thumbnails made large, and every fifth expired."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self, sample_id: int) -> Original | Expired:
        """As if from the log."""
        with self._engine.connect() as conn:
            image = sampled_image(conn, sample_id)
        assert image is not None
        assert image.thumbnail is not None
        if image.offset % 5 == 0:
            return Expired(401_000, 412_009)
        picture = Image.open(io.BytesIO(image.thumbnail)).convert("RGB").resize((768, 768))
        return Original(as_png(np.asarray(picture), 768), 768, 768, "jpeg", 182_044)

    def read_all(self, sample_ids: Sequence[int]) -> Mapping[int, bytes]:
        """All that have not expired."""
        found = {key: self.read(key) for key in sample_ids}
        return {key: one.png for key, one in found.items() if isinstance(one, Original)}


def main() -> None:
    """Its clock stands still at the moment of the scene."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser", description=__doc__)
    parser.add_argument(
        "database", nargs="?", default="board.db", help="a URL, or a file: seeded where it is not there"
    )
    parser.add_argument("--state", choices=("incident", "quiet"), default="incident")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--minutes-later", type=float, default=0, help="how long nothing has come")
    given = parser.parse_args()
    url = given.database
    if "://" not in url:
        url = f"sqlite:///{url}"
        if not Path(given.database).exists():
            seed(url, state=given.state)

    def clock() -> datetime:
        return NOW + timedelta(minutes=given.minutes_later)

    engine = open_read_only(url)
    board = Board(
        engine,
        clock,
        levels=(0.1, 0.25),
        budget_days=30,
        silent_after=timedelta(seconds=40),
        actions=Operator(load_settings(database=url), clock),
        preparing=Proposals(load_settings(database=url)),
        login="robin",
        originals=Enlarged(engine),
    )
    serve(board, Place(port=given.port), say=print)


if __name__ == "__main__":
    main()
