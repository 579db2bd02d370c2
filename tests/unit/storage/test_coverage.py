from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import Engine

from pipeline.records import Bounds, Partition
from pipeline.storage.coverage import support_by_segment, window_samples
from pipeline.storage.deployments import ensure_deployment, ensure_segments
from pipeline.storage.engine import open_database, reading
from pipeline.storage.references import save_reference
from pipeline.storage.samples import NewSample, insert_samples
from pipeline.storage.schema import to_microseconds
from pipeline.storage.scores import NewScore, insert_scores
from pipeline.storage.streams import begin_stream
from tests.faults.scored import NOW, reference

HOUR = timedelta(hours=1)
FEATURES = np.array([1.5, -2.0], "<f2").tobytes()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Six images of two segments, the last one an hour later; every second one flagged, the first without support."""
    engine = open_database(database_url)
    with engine.begin() as conn:
        key = save_reference(conn, reference())
        deployment = ensure_deployment(conn, "d", model_id="m@0", reference_id=key, now=NOW)
        stream = begin_stream(conn, deployment, Bounds(Partition("t", "id", 0), 0, 9), first=0, owner="w", now=NOW)
        keys = list(ensure_segments(conn, deployment, ["a", "b"], limit=10).values())
        at = [to_microseconds(NOW + (HOUR if offset == 5 else timedelta())) for offset in range(6)]
        supports = [None, 0.5, 1.0, 0.25, 0.75, 0.0]
        insert_scores(
            conn,
            [
                NewScore(
                    *(stream.stream_id, offset, at[offset], 0, keys[offset % 2], key, f"img-{offset}", None, None),
                    *(bytes([offset]) * 32, 1, -1.0, -1.0, 0.5, offset % 2, 0, int(offset == 4), supports[offset]),
                )
                for offset in range(6)
            ],
        )
        insert_samples(
            conn,
            [
                NewSample(
                    *(deployment, key, keys[offset % 2], at[offset], kind, offset / 10, stream.stream_id, offset),
                    *(at[offset], b"webp", FEATURES, None, "{}"),
                )
                for offset in range(6)
                for kind in ("random", "strange")
            ],
            places=10,
        )
    yield engine
    engine.dispose()


def test_the_mean_support_of_a_segment_leaves_out_drills_and_rows_that_have_none(engine: Engine) -> None:
    with reading(engine).connect() as conn:
        found = support_by_segment(conn, 1, 1, NOW, NOW + HOUR)
        later = support_by_segment(conn, 1, 1, NOW + HOUR, NOW + 2 * HOUR)
    assert found == [("a", 2, 1, 1.0, 0.0), ("b", 2, 2, 0.375, 1.0)]
    assert later == [("b", 1, 1, 0.0, 1.0)]


def test_a_window_gives_its_random_samples_of_highest_rank(engine: Engine) -> None:
    with reading(engine).connect() as conn:
        found = window_samples(conn, 1, NOW, NOW + HOUR, segment=None, limit=3)
        of_segment = window_samples(conn, 1, NOW, NOW + HOUR, segment="a", limit=10)
    assert [sample.name for sample in found] == ["img-4", "img-3", "img-2"]
    assert [sample.name for sample in of_segment] == ["img-4", "img-2", "img-0"]
    assert (found[0].segment, found[0].features, found[0].model_id) == ("a", FEATURES, "m@0")
