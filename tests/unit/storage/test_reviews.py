"""Verdicts on images: the newest counts, all are kept."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select

from pipeline.records import Bounds, Partition
from pipeline.storage.deployments import ensure_deployment, ensure_segments
from pipeline.storage.engine import open_database
from pipeline.storage.references import save_reference
from pipeline.storage.retention import RetentionLimits, delete_expired
from pipeline.storage.review_schema import ReviewRow
from pipeline.storage.reviews import flagged_judged, history_of_image, newest_reviews, save_review
from pipeline.storage.samples import NewSample, insert_samples
from pipeline.storage.schema import to_microseconds
from pipeline.storage.scores import NewScore, insert_scores
from pipeline.storage.streams import begin_stream
from tests.faults.scored import NOW, reference

NORMAL, ODD, ODD_AGAIN, OTHER = 1, 2, 3, 4  # keys of samples; two are the same image


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Three images, the first of them normal; the second is kept twice."""
    engine = open_database(database_url)
    at = to_microseconds(NOW)
    with engine.begin() as conn:
        key = save_reference(conn, reference())
        deployment = ensure_deployment(conn, "d", model_id="m@0", reference_id=key, now=NOW)
        bounds = Bounds(Partition("images", "id-1", 0), 0, 3)
        stream = begin_stream(conn, deployment, bounds, first=0, owner="w", now=NOW).stream_id
        segments = ensure_segments(conn, deployment, ["cam"], limit=10)
        insert_scores(
            conn,
            [
                NewScore(
                    *(stream, offset, at, 0, segments["cam"], key, f"{offset}", None, None, b"1" * 32),
                    *(0, float(offset), float(offset), 0.5, int(offset > 0), 0, 0),
                )
                for offset in range(3)
            ],
        )
        kept = [(0, "random"), (1, "random"), (1, "strange"), (2, "strange")]
        rows = [
            NewSample(deployment, key, segments["cam"], at, kind, 1.0, stream, offset, at, b"webp", None, None, "{}")
            for offset, kind in kept
        ]
        for row in rows:
            insert_samples(conn, [row], places=9)
    yield engine
    engine.dispose()


def test_the_newest_verdict_counts_for_every_sample_of_the_image_and_all_are_kept(engine: Engine) -> None:
    with engine.begin() as conn:
        assert save_review(conn, ODD, "noise", who="ann", now=NOW)
        assert save_review(conn, ODD_AGAIN, "shift", who="ben", now=NOW + timedelta(seconds=1))
        newest = newest_reviews(conn, [NORMAL, ODD, ODD_AGAIN, OTHER])
        assert {key: (line.verdict, line.who) for key, line in newest.items()} == {
            ODD: ("shift", "ben"),
            ODD_AGAIN: ("shift", "ben"),
        }
        assert [line.verdict for line in history_of_image(conn, ODD)] == ["noise", "shift"]


def test_a_verdict_can_be_withdrawn_and_of_a_lost_sample_none_is_stored(engine: Engine) -> None:
    with engine.begin() as conn:
        save_review(conn, OTHER, "bad_input", who="ann", now=NOW)
        save_review(conn, OTHER, None, who="ann", now=NOW)
        assert newest_reviews(conn, [OTHER]) == {}
        assert flagged_judged(conn, 1) == []
        assert not save_review(conn, 4711, "noise", who="ann", now=NOW)
        assert conn.scalar(select(func.count()).select_from(ReviewRow)) == 2


def test_only_flagged_images_say_whether_alerts_were_right(engine: Engine) -> None:
    with engine.begin() as conn:
        for sample in (NORMAL, ODD, OTHER):
            save_review(conn, sample, "shift", who="ann", now=NOW)
        assert [one.segment for one in flagged_judged(conn, 1)] == ["cam", "cam"]
        assert flagged_judged(conn, 2) == []


def test_verdicts_go_with_the_age_of_their_images(engine: Engine) -> None:
    with engine.begin() as conn:
        save_review(conn, ODD, "shift", who="ann", now=NOW)
        limits = RetentionLimits(keep=timedelta(days=1))
        delete_expired(conn, limits, now=NOW + timedelta(hours=23))
        assert conn.scalar(select(func.count()).select_from(ReviewRow)) == 1
        delete_expired(conn, limits, now=NOW + timedelta(hours=25))
        assert conn.scalar(select(func.count()).select_from(ReviewRow)) == 0
