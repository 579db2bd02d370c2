"""Plans: what the monitor asks every few seconds must find its rows by an index."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from pipeline.storage.engine import open_database
from tests.monitored import MINUTE, T0, Traffic, monitor

LARGE = ("tick", "roll_up_part", "detector_checkpoint", "transition", "score", "sample")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    yield engine
    engine.dispose()


def test_no_statement_of_a_run_reads_a_large_table_from_end_to_end(engine: Engine) -> None:
    traffic = Traffic(engine)
    traffic.minutes(65)
    seen: dict[str, Any] = {}

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:
        seen.setdefault(statement, parameters[0] if many else parameters)

    event.listen(engine, "before_cursor_execute", note)
    watching = monitor(engine, T0 + timedelta(days=20), limit=10)
    watching.run()
    traffic.write(traffic.part(T0 + 64 * MINUTE, 1, n=3))
    watching.run()
    event.remove(engine, "before_cursor_execute", note)

    plans = {}
    with engine.connect() as conn:
        for statement, parameters in seen.items():
            if re.match("SELECT|UPDATE|DELETE", statement):
                rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                plans[statement] = [row[3] for row in rows]
    read = {name for plan in plans.values() for step in plan for name in LARGE if re.search(rf"\b{name}\b", step)}
    assert read == {"tick", "roll_up_part", "detector_checkpoint", "transition"}
    scans = {
        statement: step
        for statement, plan in plans.items()
        for step in plan
        for name in LARGE
        if step == f"SCAN {name}"
    }
    assert scans == {}
