"""What was found out about stored images: written once, found again, thinned out, erased."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select

from pipeline.records import Bounds, Partition
from pipeline.storage.deployments import ensure_deployment, ensure_segments
from pipeline.storage.engine import open_database
from pipeline.storage.explanation_schema import ExplanationRow
from pipeline.storage.explanations import (
    StoredImage,
    find_explanation,
    save_explanation,
    stored_image,
    unexplained_images,
)
from pipeline.storage.forgetting import coordinates_of, forget
from pipeline.storage.references import has_reference, save_reference
from pipeline.storage.retention import RetentionLimits, delete_expired
from pipeline.storage.samples import NewSample, insert_samples
from pipeline.storage.schema import to_microseconds
from pipeline.storage.scores import NewScore, insert_scores
from pipeline.storage.streams import begin_stream
from tests.faults.scored import NOW, reference

PLACE = Partition("images", "id-1", 0)
NAMES = ("plain", "odd", "odd again", "unseen")
CONTENT = {"masks": [{"rle": {"size": [2, 2], "counts": [0, 1, 3]}}]}


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Four scored images: one normal, three flagged, of which one is no sample and one was kept twice."""
    engine = open_database(database_url)
    at = to_microseconds(NOW)
    with engine.begin() as conn:
        key = save_reference(conn, reference())
        deployment = ensure_deployment(conn, "d", model_id="m@0", reference_id=key, now=NOW)
        stream = begin_stream(conn, deployment, Bounds(PLACE, 0, 4), first=0, owner="w", now=NOW).stream_id
        segments = ensure_segments(conn, deployment, ["cam"], limit=10)
        insert_scores(
            conn,
            [
                NewScore(
                    *(stream, offset, at, 0, segments["cam"], key, name, None, None, bytes([offset + 1]) * 32),
                    *(0, float(offset), float(offset), 0.5, int(offset > 0), 0, 0),
                )
                for offset, name in enumerate(NAMES)
            ],
        )
        kept = [(0, "random"), (1, "random"), (1, "strange"), (2, "strange")]
        samples = [
            NewSample(deployment, key, segments["cam"], at, kind, 1.0, stream, offset, at, b"webp", None, None, "{}")
            for offset, kind in kept
        ]
        insert_samples(conn, samples, places=9)
    yield engine
    engine.dispose()


def explained(engine: Engine, name: str, segmenter: str = "s") -> StoredImage:
    with engine.begin() as conn:
        image = stored_image(conn, name, None)
        assert image is not None
        assert save_explanation(conn, image, segmenter=segmenter, picture="original", content=CONTENT, now=NOW)
    return image


def test_a_scored_image_is_found_by_its_id_with_what_is_kept_of_it(engine: Engine) -> None:
    with engine.connect() as conn:
        odd, unseen = stored_image(conn, "odd", "d"), stored_image(conn, "unseen", None)
        assert stored_image(conn, "odd", "another") is None
        assert stored_image(conn, "nobody", None) is None
        assert has_reference(conn, "m@0")
        assert not has_reference(conn, "m@1")
    assert odd is not None
    assert (odd.topic, odd.partition, odd.offset, odd.energy, odd.model_id) == ("images", 0, 1, 1.0, "m@0")
    assert (odd.thumbnail, odd.value_sha256) == (b"webp", b"\2" * 32)
    assert unseen is not None
    assert unseen.thumbnail is None


def test_flagged_samples_wait_for_each_segmenter_once_and_the_newest_come_first(engine: Engine) -> None:
    def waiting(segmenter: str, limit: int = 9, model: str = "m@0") -> list[str | None]:
        with engine.connect() as conn:
            return [image.id for image in unexplained_images(conn, model, segmenter, limit)]

    assert waiting("s") == ["odd again", "odd"]
    assert waiting("s", limit=1) == ["odd again"]
    assert waiting("s", model="m@1") == []
    explained(engine, "odd again")
    assert waiting("s") == ["odd"]
    assert waiting("another") == ["odd again", "odd"]


def test_an_explanation_is_stored_once(engine: Engine) -> None:
    image = explained(engine, "odd")
    with engine.begin() as conn:
        assert find_explanation(conn, image, "s") == CONTENT
        assert find_explanation(conn, image, "another") is None
        assert not save_explanation(conn, image, segmenter="s", picture="original", content={}, now=NOW)
        assert find_explanation(conn, image, "s") == CONTENT


def test_forgetting_erases_explanations_and_none_is_stored_afterwards(engine: Engine) -> None:
    image = explained(engine, "odd")
    explained(engine, "odd again")
    with engine.begin() as conn:
        counts = forget(conn, coordinates_of(conn, "id", "odd"))
        assert (counts.explanations, counts.samples, counts.values) == (1, 2, (b"\2" * 32,))
        assert not save_explanation(conn, image, segmenter="s", picture="original", content=CONTENT, now=NOW)
        assert conn.scalars(select(ExplanationRow.offset)).all() == [2]


def test_explanations_go_with_age_and_with_number(engine: Engine) -> None:
    for name in ("odd", "odd again"):
        explained(engine, name)
    with engine.begin() as conn:
        delete_expired(conn, RetentionLimits(max_samples=1), now=NOW)
        assert conn.scalars(select(ExplanationRow.offset)).all() == [2]
        delete_expired(conn, RetentionLimits(keep=timedelta(days=1)), now=NOW + timedelta(days=2))
        assert conn.scalar(select(func.count()).select_from(ExplanationRow)) == 0
