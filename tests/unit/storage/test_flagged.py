"""Flagged scores are found by an index of their own."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from pipeline.storage.engine import open_database
from pipeline.storage.scores import flagged_scores
from tests.browser.seeded import END, seed


def test_the_newest_flagged_images_are_read_through_the_partial_index(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'board.db'}"
    seed(url, hours=1)
    engine = open_database(url)
    asked: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, sql, given, *_: asked.append((sql, given)))
    with engine.connect() as conn:
        found = flagged_scores(conn, "road-users", END - timedelta(days=1), END, segments=range(1, 7), limit=5)
        sql, given = asked[-1]
        plan = [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", given)]
        newest = conn.scalars(text("SELECT event_time FROM score WHERE is_ood ORDER BY event_time DESC LIMIT 5")).all()
    engine.dispose()
    assert any("SEARCH score USING INDEX ix_score_flagged" in step for step in plan), plan
    assert len(found) == len(newest) == 5
    assert all(one.is_ood for one in found)
