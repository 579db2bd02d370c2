"""A batch costs a handful of round trips to PostgreSQL, however many images it holds."""

from sqlalchemy import event

from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import open_database
from pipeline.storage.references import save_reference
from tests.benchmarks.postgres import PARTITIONS, next_batch, positioned_writer
from tests.faults.fake_log import FakeLog
from tests.faults.scored import NOW, reference


def test_the_number_of_statements_does_not_grow_with_the_batch(migrated_postgres_url: str) -> None:
    engine = open_database(migrated_postgres_url)
    with engine.begin() as conn:
        save_reference(conn, reference())
        ensure_deployment(conn, "d", model_id="m@0", reference_id=1, now=NOW)
    log = FakeLog(PARTITIONS)
    writer = positioned_writer(engine, log)
    writer.store(next_batch(log, 64))  # makes the segments
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *about: statements.append(about[2]))
    counts = []
    for size in (64, 1024, 4096):
        statements.clear()
        writer.store(next_batch(log, size))
        counts.append(len(statements))
    engine.dispose()
    assert writer.progress.scored == 64 + 64 + 1024 + 4096
    assert max(counts) <= 8 + PARTITIONS
