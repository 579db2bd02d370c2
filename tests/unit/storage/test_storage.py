from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, select, text

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.records import Bounds, Card, CardLine, LogRetention, Partition, ResidualSpace
from pipeline.storage.deployments import ensure_deployment, ensure_segments
from pipeline.storage.engine import HEAD_REVISION, current_revision, make_engine, open_database, reading
from pipeline.storage.forgetting import coordinates_of, forget
from pipeline.storage.migrations.run import alembic_config, downgrade, upgrade
from pipeline.storage.partitions import drop_expired_day, ensure_days_ahead, is_no_partition
from pipeline.storage.references import (
    find_reference,
    list_references,
    reference_images,
    save_reference,
    stored_card,
)
from pipeline.storage.retention import RetentionLimits, delete_expired
from pipeline.storage.samples import NewSample, count_random_outputs, insert_samples, random_outputs
from pipeline.storage.schema import (
    DeadLetterRow,
    DeploymentRow,
    SampleRow,
    ScoreRow,
    StreamRow,
    from_microseconds,
    to_microseconds,
)
from pipeline.storage.scores import (
    NewDeadLetter,
    NewScore,
    dead_letters,
    exported_scores,
    flagged_scores,
    insert_dead_letters,
    insert_scores,
    stored_scores,
)
from pipeline.storage.streams import Advance, advance, begin_stream, expire, ledger, note_log, release, take_over
from pipeline.storage.tables import METADATA
from tests.faults.scored import NOW, reference

PLACE = Partition("images", "id-1", 0)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


def deployed(engine: Engine) -> tuple[int, int]:
    """(deployment, stream) keys."""
    with engine.begin() as conn:
        key = save_reference(conn, reference())
        deployment = ensure_deployment(conn, "d", model_id="m@0", reference_id=key, now=NOW)
        cursor = begin_stream(conn, deployment, Bounds(PLACE, 3, 10), first=5, owner="w", now=NOW)
        ensure_segments(conn, deployment, ["cam"], limit=10)
    return deployment, cursor.stream_id


def step(start: int, end: int, scored: int = 0) -> Advance:
    return Advance(
        start,
        end,
        scored=scored,
        dead=end - start - scored,
        holes=0,
        log_end=end,
        newest_event_time=to_microseconds(NOW),
    )


def score_row(stream: int, offset: int, at: datetime = NOW) -> NewScore:
    values = {"id": f"img-{offset}", "key": b"k", "label": None, "value_sha256": b"h" * 32, "class_index": 1}
    flags = {"energy": -1.0, "score": -1.0, "msp": 0.5, "is_ood": 1, "repeat": 0, "drill": 0}
    return NewScore(stream, offset, to_microseconds(at), 0, 1, 1, **values, **flags)  # type: ignore[arg-type]


def test_migrations_make_exactly_the_tables_of_the_schema(engine: Engine) -> None:
    with engine.begin() as conn:
        ensure_days_ahead(conn, now=NOW)
    with reading(engine).connect() as conn:
        context = MigrationContext.configure(conn, opts={"include_object": is_no_partition})
        assert compare_metadata(context, METADATA) == []


def test_the_head_revision_is_alembics_own() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == HEAD_REVISION


def test_a_downgrade_to_base_and_back_leaves_the_same(engine: Engine) -> None:
    downgrade(engine, "base")
    upgrade(engine)
    assert current_revision(engine) == HEAD_REVISION


def test_a_database_of_a_newer_revision_is_refused(engine: Engine, database_url: str) -> None:
    with engine.begin() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UsageError, match="newer oodwatch"):
        open_database(database_url)


def test_tables_of_another_program_are_left_alone(tmp_path: Path) -> None:
    other = make_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with other.begin() as conn:
        conn.execute(text("CREATE TABLE theirs (a INTEGER)"))
    with pytest.raises(UsageError, match="not oodwatch's"):
        open_database(str(other.url))
    other.dispose()


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(EnvironmentFault, match="not a database"):
        open_database(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_url_that_is_none_shows_examples() -> None:
    with pytest.raises(UsageError, match="sqlite:///"):
        open_database("my.db")


def test_sqlite_commits_survive_a_power_cut(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    with reading(engine).connect() as conn:
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert conn.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    engine.dispose()


def test_a_cursor_moves_only_from_where_it_stands(engine: Engine) -> None:
    _, stream = deployed(engine)
    with engine.begin() as conn:
        assert advance(conn, stream, step(5, 8), owner="a", now=NOW)
        assert not advance(conn, stream, step(5, 8), owner="zombie", now=NOW)
        assert not advance(conn, stream, step(6, 9), owner="zombie", now=NOW)
        assert advance(conn, stream, step(8, 10), owner="a", now=NOW)


def test_the_ledger_accounts_for_every_offset(engine: Engine) -> None:
    _, stream = deployed(engine)
    with engine.begin() as conn:
        advance(conn, stream, step(5, 8, scored=2), owner="a", now=NOW)
        assert expire(conn, stream, position=8, beginning=12, now=NOW)
        (line,) = ledger(conn, log_ends={PLACE: 20})
    assert (line.produced, line.scored, line.dead, line.expired, line.skipped, line.waiting) == (17, 2, 1, 4, 2, 8)
    assert line.produced == line.scored + line.dead + line.waiting + line.expired + line.skipped + line.holes


def test_attempts_count_unless_they_end_in_a_commit_or_in_order(engine: Engine) -> None:
    deployment, stream = deployed(engine)
    with engine.begin() as conn:
        attempts = [take_over(conn, deployment, PLACE, owner="w", now=NOW) for _ in range(3)]
        assert [cursor.attempts for cursor in attempts if cursor] == [2, 3, 4]
        release(conn, [stream])
        again = take_over(conn, deployment, PLACE, owner="w", now=NOW)
    assert again is not None
    assert (again.attempts, again.next_offset) == (4, 5)


def test_references_come_back_as_they_were_stored(engine: Engine) -> None:
    with engine.begin() as conn:
        key = save_reference(conn, reference())
        found = find_reference(conn, name=None, model_id="m@0")
        assert reference_images(conn, key) == []
        assert [line.reference for line in list_references(conn)] == ["m-r1"]
    for name in ("name", "threshold", "rank", "p0_high", "created_at", "classes", "representative"):
        assert getattr(found, name) == getattr(reference(), name)
    np.testing.assert_array_equal(found.scores, reference().scores)
    np.testing.assert_array_equal(found.projection, reference().projection)


def test_a_residual_space_and_a_card_come_back_as_they_were_stored(engine: Engine) -> None:
    space = ResidualSpace(np.array([0.5, -1.0]), np.array([[1.0], [0.0]]), 2.5)
    line = CardLine("none", 0.9, 1.0, {"energy": 0.05}, {"energy": 0.01})
    card = Card(60, 0.05, 1, (line,), "energy", "it is enough")
    with engine.begin() as conn:
        save_reference(conn, replace(reference(), score_name="energy+residual", residual=space, card=card))
        found = find_reference(conn, name="m-r1", model_id="m@0")
        assert stored_card(conn, None) == stored_card(conn, "m-r1")
        assert stored_card(conn, None) == ("m-r1", "energy+residual", reference().n, reference().target_fpr, card)
        with pytest.raises(UsageError, match="known: m-r1"):
            stored_card(conn, "m-r9")
    assert found.card == card
    assert found.residual is not None
    assert found.residual.scale == space.scale
    np.testing.assert_array_equal(found.residual.origin, space.origin)
    np.testing.assert_array_equal(found.residual.axes, space.axes)


def test_of_two_calibrations_at_once_the_second_is_refused_and_writes_nothing(engine: Engine) -> None:
    with engine.begin() as conn:
        save_reference(conn, reference())
    with pytest.raises(EnvironmentFault, match="nothing was written"), engine.begin() as conn:
        save_reference(conn, replace(reference(), threshold=9.0))
    with reading(engine).connect() as conn:
        assert [line.threshold for line in list_references(conn)] == [0.5]


def test_a_reference_of_another_model_is_refused(engine: Engine) -> None:
    with engine.begin() as conn:
        save_reference(conn, reference())
        with pytest.raises(UsageError, match="belongs to model m@0"):
            find_reference(conn, name="m-r1", model_id="other@1")
        with pytest.raises(UsageError, match="known: m-r1"):
            find_reference(conn, name="m-r7", model_id="m@0")


def test_segments_beyond_the_limit_share_one(engine: Engine) -> None:
    deployment, _ = deployed(engine)
    with engine.begin() as conn:
        keys = ensure_segments(conn, deployment, [f"s{i}" for i in range(20)], limit=5)
    assert len(set(keys.values())) == 5
    assert keys["s10"] == keys["s19"]


def test_a_slot_keeps_the_samples_of_highest_rank(engine: Engine) -> None:
    def sample(rank: float) -> NewSample:
        keys = (1, 1, 1, 60_000_000, "strange", rank, 1, int(rank * 10), 60_000_001)
        return NewSample(*keys, None, None, None, "{}")

    with engine.begin() as conn:
        insert_samples(conn, [sample(rank) for rank in (0.1, 0.9, 0.5)], places=2)
        insert_samples(conn, [sample(0.7)], places=2)
        assert sorted(conn.scalars(select(SampleRow.rank))) == [0.7, 0.9]


def test_the_outputs_of_random_samples_come_back_with_what_the_row_says(engine: Engine) -> None:
    deployment, stream = deployed(engine)
    outputs, at = np.array([1.5, -2.0], "<f2").tobytes(), to_microseconds(NOW)

    def sample(kind: str, offset: int, logits: bytes | None) -> NewSample:
        return NewSample(deployment, 1, segment, at, kind, 0.5, stream, offset, at, b"webp", outputs, logits, "{}")

    with engine.begin() as conn:
        segment = ensure_segments(conn, deployment, ["cam"], limit=10)["cam"]
        insert_scores(conn, [score_row(stream, i)._replace(label="cat") for i in range(3)])
        kinds = [sample("random", 0, outputs), sample("strange", 1, outputs), sample("random", 2, None)]
        insert_samples(conn, kinds, places=3)
        (found,) = random_outputs(conn, "d", "cam")
        assert [count_random_outputs(conn, "d", name) for name in (None, "cam", "other")] == [1, 1, 0]
    assert (found.name, found.label, found.thumbnail) == ("img-0", "cat", b"webp")
    assert np.frombuffer(found.logits, "<f2").tolist() == np.frombuffer(found.features, "<f2").tolist() == [1.5, -2.0]


def test_retention_deletes_in_chunks_and_stops_when_nothing_is_left(engine: Engine) -> None:
    _, stream = deployed(engine)
    old, new = (to_microseconds(at) for at in (NOW - timedelta(days=10), NOW))
    letters = [NewDeadLetter(stream, i, "decode", "empty", "", old, *[None] * 6) for i in range(25)]
    with engine.begin() as conn:
        insert_dead_letters(conn, [*letters, letters[0]._replace(offset=100, at=new)])
    deleted: list[int] = []
    limits = RetentionLimits(keep=timedelta(days=1))
    while not deleted or deleted[-1]:
        with engine.begin() as conn:
            deleted.append(delete_expired(conn, limits, now=NOW, chunk=10))
    assert deleted == [10, 10, 5, 0]
    with reading(engine).connect() as conn:
        assert conn.scalars(select(DeadLetterRow.offset)).all() == [100]


def test_dead_letters_come_newest_first_and_of_one_moment_by_offset(engine: Engine) -> None:
    _, stream = deployed(engine)
    letters = [
        NewDeadLetter(
            stream, offset, "decode", "empty", "", to_microseconds(NOW + minutes * timedelta(minutes=1)), *[None] * 6
        )
        for offset, minutes in ((0, 2), (1, 0), (2, 1), (3, 1))
    ]
    with engine.begin() as conn:
        insert_dead_letters(conn, letters)
        assert [one.offset for one in dead_letters(conn, deployment="d")] == [0, 3, 2, 1]
        assert [one.offset for one in dead_letters(conn, limit=2)] == [0, 3]


def test_scores_of_a_window_come_without_drills(engine: Engine) -> None:
    deployment, stream = deployed(engine)
    with engine.begin() as conn:
        insert_scores(conn, [score_row(stream, i)._replace(score=float(i), drill=i % 2) for i in range(4)])
        pieces = list(stored_scores(conn, deployment, 1, NOW, NOW + timedelta(hours=1)))
    assert [(list(scores), list(classes)) for scores, classes in pieces] == [([0.0, 2.0], [1, 1])]


def test_flagged_scores_are_the_newest_of_some_segments_without_drills(engine: Engine) -> None:
    _, stream = deployed(engine)
    at = [NOW + timedelta(minutes=i) for i in range(8)]
    rows = [score_row(stream, i, at[i])._replace(is_ood=1) for i in range(8)]
    rows[1] = rows[1]._replace(is_ood=0)
    rows[2] = rows[2]._replace(drill=1)
    rows[3] = rows[3]._replace(segment_id=99)
    with engine.begin() as conn:
        insert_scores(conn, rows)
        name = conn.scalar(select(DeploymentRow.name))
        found = [
            flagged_scores(conn, name or "", NOW, at[7], segments=[rows[0].segment_id], limit=limit)
            for limit in (100, 2)
        ]
        assert flagged_scores(conn, "another", NOW, at[7], segments=[rows[0].segment_id], limit=9) == []
    assert [[one.offset for one in some] for some in found] == [[6, 5, 4, 0], [6, 5]]


def test_old_scores_go_by_chunks_or_by_whole_days(engine: Engine) -> None:
    _, stream = deployed(engine)
    with engine.begin() as conn:
        insert_scores(conn, [score_row(stream, i, NOW - timedelta(days=10 + i % 3)) for i in range(25)])
        insert_scores(conn, [score_row(stream, 100)])
    keep = timedelta(days=1)
    for _ in range(4):
        with engine.begin() as conn:
            delete_expired(conn, RetentionLimits(keep=keep), now=NOW, chunk=10)
            drop_expired_day(conn, NOW - keep)
    with reading(engine).connect() as conn:
        assert conn.scalars(select(ScoreRow.offset)).all() == [100]


def test_forgetting_leaves_an_anonymous_row(engine: Engine) -> None:
    _, stream = deployed(engine)
    with engine.begin() as conn:
        insert_scores(conn, [score_row(stream, i) for i in range(3)])
        found = coordinates_of(conn, "id", "img-1")
        assert [at.offset for at in found] == [1]
        assert forget(conn, found).scores == 1
        rows = list(exported_scores(conn))
    assert [(row.id, row.value_sha256[:4], row.energy) for row in rows] == [
        ("img-0", "6868", -1.0),
        (None, "", -1.0),
        ("img-2", "6868", -1.0),
    ]


def test_times_are_microseconds_and_naive_ones_are_refused() -> None:
    at = datetime(2026, 11, 24, 3, 0, 0, 123456, tzinfo=UTC)
    assert from_microseconds(to_microseconds(at)) == at
    with pytest.raises(ValueError, match="no time zone"):
        to_microseconds(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret@db:port/x",
        "postgresql://u:s3@cret:x@db/x",
        "no url: s3cret@at all",
        "mysql://u:s3cret@db/x",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_a_password_never_shows(url: str) -> None:
    with pytest.raises(UsageError, match="sqlite:///") as refused:
        make_engine(url)
    assert "s3cret" not in str(refused.value)


def test_stored_scores_are_those_of_one_reference_without_drills(engine: Engine) -> None:
    _, stream = deployed(engine)
    rows = [
        score_row(stream, 5),
        score_row(stream, 6)._replace(drill=1),
        score_row(stream, 7)._replace(reference_id=2),
        score_row(stream, 8, NOW + timedelta(days=1)),
    ]
    with engine.begin() as conn:
        insert_scores(conn, rows)
        found = list(stored_scores(conn, 1, 1, NOW, NOW + timedelta(hours=1)))
    assert found == [((-1.0,), (1,))]


def test_what_a_log_holds_and_keeps_is_noted_and_an_idle_stream_is_written_once_a_minute(engine: Engine) -> None:
    _, stream = deployed(engine)
    day = LogRetention(timedelta(days=1), None)

    def note(seconds: float, end: int = 10, *, start: int = 3, kept: LogRetention = day, read: bool = True) -> bool:
        """Whether that was news."""
        with engine.begin() as conn:
            before = conn.execute(select(StreamRow.__table__)).one()
            seen = {stream: Bounds(PLACE, start, end)}
            note_log(conn, seen, kept, {stream} if read else (), now=NOW + timedelta(seconds=seconds))
            return before != conn.execute(select(StreamRow.__table__)).one()

    assert [note(at) for at in (0, 2, 60, 61, 62)] == [True, False, False, True, False]
    assert [note(63, start=4), note(64, start=4, end=11, read=False), note(65, start=4, end=9, read=False)] == [
        True,
        True,
        False,
    ]
    assert note(66, start=4, kept=LogRetention(None, 10**9), read=False)
    with engine.connect() as conn:
        row = conn.execute(select(StreamRow.__table__)).one()
    assert (row.log_start, row.log_end, row.retention_ms, row.retention_bytes) == (4, 11, None, 10**9)
    assert row.caught_up_at == NOW + timedelta(seconds=63)


def test_the_time_of_the_last_record_that_was_read_stays_where_a_range_has_none(engine: Engine) -> None:
    _, stream = deployed(engine)
    with engine.begin() as conn:
        for part, at in ((step(5, 7), NOW), (step(7, 9), None)):
            known = replace(part, record_time=None if at is None else to_microseconds(at))
            assert advance(conn, stream, known, owner="w", now=NOW)
        assert conn.scalar(select(StreamRow.record_time)) == NOW
