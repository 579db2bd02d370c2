import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.assembly.housekeeping import Housekeeping
from pipeline.errors import EnvironmentFault
from pipeline.settings import load_settings
from pipeline.stages.flow import Progress
from pipeline.stages.retry import Retry
from pipeline.storage.engine import open_database


class FakeWriter:
    """A writer whose log always answers."""

    def __init__(self, retry: Retry) -> None:
        self.retry = retry
        self.cursors = self

    def refresh_log_ends(self) -> None:
        """Nothing is new."""


def test_a_worker_whose_database_was_deleted_says_so_instead_of_writing_into_nothing(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'o.db'}")
    retry = Retry(engine.url, threading.Event(), progress=Progress())
    writer: Any = FakeWriter(retry)
    Housekeeping(engine, writer, load_settings())()
    housekeeping = Housekeeping(engine, writer, load_settings())
    (tmp_path / "o.db").rename(tmp_path / "gone.db")
    with pytest.raises(EnvironmentFault, match=r"o\.db was deleted or replaced"):
        housekeeping()
    engine.dispose()
