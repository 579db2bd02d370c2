from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select

from pipeline.assembly.labelling import Given, take_labels
from pipeline.ingest.labels_file import BadLine, GivenLabel
from pipeline.records import Bounds, Partition
from pipeline.settings import load_settings
from pipeline.storage.deployments import ensure_deployment, ensure_segments
from pipeline.storage.engine import open_database
from pipeline.storage.evidence import LabelSums, label_sums
from pipeline.storage.forgetting import Coordinates, forget
from pipeline.storage.label_schema import LabelRow
from pipeline.storage.references import save_reference
from pipeline.storage.retention import RetentionLimits, delete_expired
from pipeline.storage.schema import to_microseconds
from pipeline.storage.scores import NewScore, insert_scores
from pipeline.storage.streams import begin_stream
from tests.faults.scored import NOW, reference

PLACE = Partition("images", "id-1", 0)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Forty images, one a minute, of two segments; the model said a, b, a, b ...; every fourth is flagged."""
    engine = open_database(database_url)
    with engine.begin() as conn:
        key = save_reference(conn, reference())
        deployment = ensure_deployment(conn, "d", model_id="m@0", reference_id=key, now=NOW)
        stream = begin_stream(conn, deployment, Bounds(PLACE, 0, 40), first=0, owner="w", now=NOW).stream_id
        segments = list(ensure_segments(conn, deployment, ["east", "north"], limit=10).values())
        insert_scores(conn, [row(stream, i, segments[i % 4 // 2], key) for i in range(40)])
    yield engine
    engine.dispose()


def row(stream: int, i: int, segment: int, reference_id: int) -> NewScore:
    at = to_microseconds(NOW + i * MINUTE)
    flagged, drill = int(i % 4 == 3), int(i == 39)
    return NewScore(
        stream, i, at, 0, segment, reference_id, f"img-{i}", None, None, b"h", i % 2, 0, 0, 0.5, flagged, 0, drill
    )


def take(url: str, *lines: GivenLabel | BadLine, **window: object) -> Given:
    return take_labels(load_settings(database=url), iter(lines), **window)  # type: ignore[arg-type]


def stored(engine: Engine) -> list[tuple[int, str, bool]]:
    with engine.connect() as conn:
        columns = LabelRow.offset, LabelRow.label, LabelRow.is_right
        return [(*row,) for row in conn.execute(select(*columns).order_by(LabelRow.offset))]


def test_labels_meet_their_images_and_say_how_often_the_model_was_right(engine: Engine, database_url: str) -> None:
    given = take(database_url, *(GivenLabel(f"img-{i}", "a") for i in range(20)))
    assert (given.lines, given.images, given.failed) == (20, 20, False)
    assert given.accuracy is not None
    assert (given.accuracy.all.k, given.accuracy.all.n) == (10, 20)
    assert given.accuracy.flagged is not None
    assert (given.accuracy.flagged.k, given.accuracy.flagged.n) == (0, 5)
    assert {name: (one.k, one.n) for name, one in given.accuracy.segments.items()} == {
        "east": (5, 10),
        "north": (5, 10),
    }
    assert stored(engine)[:2] == [(0, "a", True), (1, "a", False)]


def test_a_file_given_again_changes_nothing_and_a_later_label_counts(engine: Engine, database_url: str) -> None:
    lines = [GivenLabel("img-0", "a"), GivenLabel("img-1", "a")]
    take(database_url, *lines)
    take(database_url, *lines)
    assert stored(engine) == [(0, "a", True), (1, "a", False)]
    take(database_url, GivenLabel("img-1", "a"), GivenLabel("img-1", "b"))
    assert stored(engine) == [(0, "a", True), (1, "b", True)]


def test_what_is_unknown_is_counted_listed_and_left_out(engine: Engine, database_url: str) -> None:
    strangers = [GivenLabel(f"nobody-{i:02}", "a") for i in range(12)]
    given = take(
        database_url, GivenLabel("img-0", "zebra"), *strangers, BadLine(9, "no JSON"), GivenLabel("img-39", "a")
    )
    assert given.failed
    assert (given.lines, given.images, given.bad_lines) == (15, 0, 1)
    assert given.unknown_classes == {"zebra": 1}
    assert given.unknown_ids == 13  # the last is of a drill
    assert given.first_unknown[0] == "img-39"
    assert len(given.first_unknown) == 10
    assert stored(engine) == []


def test_only_the_window_that_was_asked_for_is_read(engine: Engine, database_url: str) -> None:
    lines = [GivenLabel(f"img-{i}", "a") for i in range(10)]
    given = take(database_url, *lines, start=NOW + 2 * MINUTE, end=NOW + 5 * MINUTE)
    assert [offset for offset, _, _ in stored(engine)] == [2, 3, 4]
    assert given.unknown_ids == 7


def test_answers_find_labels_by_time_segment_and_flag(engine: Engine, database_url: str) -> None:
    take(database_url, *(GivenLabel(f"img-{i}", "a") for i in range(8)))
    with engine.connect() as conn:
        found = label_sums(conn, 1, NOW + 2 * MINUTE, NOW + 8 * MINUTE)
    assert found == [LabelSums(1, False, 2, 1), LabelSums(2, False, 2, 2), LabelSums(2, True, 2, 0)]


def test_whoever_is_forgotten_loses_the_label_too_and_old_ones_go(engine: Engine, database_url: str) -> None:
    take(database_url, *(GivenLabel(f"img-{i}", "a") for i in range(8)))
    with engine.begin() as conn:
        forget(conn, [Coordinates(PLACE.topic, PLACE.topic_id, PLACE.number, 3)])
    assert [offset for offset, _, _ in stored(engine)] == [0, 1, 2, 4, 5, 6, 7]
    with engine.begin() as conn:
        delete_expired(conn, RetentionLimits(keep=5 * MINUTE), now=NOW + 10 * MINUTE)
    assert [offset for offset, _, _ in stored(engine)] == [5, 6, 7]


def test_an_id_that_several_images_have_labels_them_all(engine: Engine, database_url: str) -> None:
    with engine.begin() as conn:
        insert_scores(conn, [row(1, 40 + i, 1, 1)._replace(id="twice", drill=0) for i in range(2)])
    given = take(database_url, GivenLabel("twice", "a"))
    assert (given.lines, given.images, given.unknown_ids) == (1, 2, 0)
    with engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(LabelRow)) == 2
