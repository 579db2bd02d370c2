"""The whole path on both databases: spool, worker, rows."""

import hashlib
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine, text

from pipeline.assembly.working import run_worker
from pipeline.errors import UsageError
from pipeline.ingest.source import NewRecord
from pipeline.models.classifier import Classifier
from pipeline.models.package import load_package
from pipeline.records import Outputs
from pipeline.scoring.energy import score_logits
from pipeline.shift.rollup import decode, merge
from pipeline.storage.engine import make_engine
from pipeline.storage.references import find_reference, save_reference
from tests.services.postgres import Postgres
from tests.tiny import Deployment, png


@pytest.fixture(scope="module")
def calibrated_database(template: Deployment, postgres: Postgres, migrated_template: str) -> Iterator[str]:
    """A PostgreSQL database that holds the template's reference, to be copied."""
    name = postgres.create_database(template=migrated_template)
    source, target = create_engine(template.database), make_engine(postgres.url(name))
    with source.connect() as read, target.begin() as write:
        reference = find_reference(read, name=None, model_id=load_package(template.model).model_id)
        save_reference(write, reference)
    source.dispose()
    target.dispose()
    yield name
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def deployment(template: Deployment, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """A fresh database and spool; the package is shared, for it never changes."""
    (tmp_path / "tiny").symlink_to(template.home / "tiny")
    if request.param == "sqlite":
        shutil.copy(template.home / "oodwatch.db", tmp_path)
        yield Deployment(tmp_path)
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create_database(template=request.getfixturevalue("calibrated_database"))
    yield Deployment(tmp_path, postgres.url(name))
    postgres.drop_database(name)


@pytest.fixture
def database(deployment: Deployment) -> Iterator[Engine]:
    engine = create_engine(deployment.database)
    yield engine
    engine.dispose()


def query(engine: Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(statement))]


def test_every_row_holds_the_energy_of_its_own_image(deployment: Deployment, database: Engine) -> None:
    values = [png(i) for i in range(100)]
    deployment.produce(list(values), partitions=3)
    deployment.drain()
    classifier = Classifier(load_package(deployment.model))
    stored = query(database, "SELECT value_sha256, energy, msp, class_index FROM score")
    by_hash: dict[object, bytes] = {hashlib.sha256(value).digest(): value for value in values}
    assert len(stored) == 100
    for digest, energy, msp, class_index in stored:
        import io

        from PIL import Image

        pixels = np.array(Image.open(io.BytesIO(by_hash[digest])))
        alone = score_logits(classifier.predict(pixels[None]))
        assert energy == pytest.approx(alone.energy[0], abs=1e-5)
        assert msp == pytest.approx(alone.msp[0], abs=1e-6)
        assert class_index == alone.class_index[0]


def test_a_second_run_finds_nothing_to_do(deployment: Deployment, database: Engine) -> None:
    deployment.produce([png(i) for i in range(20)])
    assert deployment.drain().scored == 20
    assert deployment.drain().scored == 0
    assert query(database, "SELECT count(*) FROM score") == [(20,)]


def test_roll_up_parts_sum_to_the_rows(deployment: Deployment, database: Engine) -> None:
    spool = deployment.spool(2)
    headers = [((("segment", f"cam-{i % 3}".encode()),) if i % 4 else ()) for i in range(200)]
    spool.append([NewRecord(png(i % 150), headers=header) for i, header in enumerate(headers)])
    spool.close()
    deployment.drain()
    parts = query(database, "SELECT segment_id, content FROM roll_up_part")
    for pooled in (True, False):
        chosen = [decode(bytes(content)) for segment, content in parts if (segment is None) == pooled]  # type: ignore[call-overload]
        total = chosen[0]
        for part in chosen[1:]:
            total = merge(total, part)
        rows = query(database, "SELECT count(*), sum(is_ood), sum(repeat), sum(score) FROM score")
        n, flags, repeats, score_sum = rows[0]
        assert (total.n, total.flags, total.repeats) == (n, flags, repeats)
        assert total.score_sum == pytest.approx(score_sum)
        assert total.histogram.sum() == total.fine_histogram.sum() == total.class_counts.sum() == n
        assert total.z_n == (n if pooled else 0)


def test_a_clock_alone_never_costs_an_image(deployment: Deployment, database: Engine) -> None:
    spool = deployment.spool()
    for stamp in (b"2999-01-01T00:00:00Z", b"rubbish", b"2026-01-01T00:00:00Z"):
        spool.append([NewRecord(png(1), headers=(("ce_time", stamp),))])
    spool.close()
    assert deployment.drain().scored == 3
    assert [row[0] for row in query(database, 'SELECT clock FROM score ORDER BY "offset"')] == [1, 1, 0]


def test_what_a_raising_model_says_is_stored_without_the_nul_that_no_database_takes(
    deployment: Deployment, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_MAGIC", "raise")
    deployment.produce([png(i, magic=i == 7) for i in range(32)])
    assert deployment.drain().scored == 31
    letters = query(database, "SELECT count(*) FROM dead_letter WHERE error LIKE '%magic\ufffdpixel%'")
    assert letters == [(1,)]


def test_samples_are_capped_per_segment_and_minute(deployment: Deployment, database: Engine) -> None:
    spool = deployment.spool()
    at = (("ce_time", b"2026-11-01T00:00:10Z"), ("segment", b"a"))
    spool.append([NewRecord(png(i), headers=at) for i in range(120)])
    spool.close()
    deployment.drain()
    kept = query(database, "SELECT kind, count(*), min(rank) FROM sample GROUP BY kind ORDER BY kind")
    assert [(kind, count) for kind, count, _ in kept] == [("random", 4), ("strange", 4)]
    strangest = query(database, "SELECT score FROM score ORDER BY score DESC LIMIT 4")
    assert kept[1][2] == strangest[-1][0]
    assert query(database, "SELECT count(*) FROM sample WHERE thumbnail IS NULL OR features IS NULL") == [(0,)]


def test_a_switch_keeps_no_image_at_all(
    deployment: Deployment, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODWATCH_SAMPLES__PICTURES", "false")
    deployment.produce([png(i) for i in range(30)])
    deployment.drain()
    kept = query(database, "SELECT count(*), count(thumbnail), count(features), count(logits) FROM sample")
    assert kept == [(8, 0, 0, 0)]


def test_drills_are_scored_but_count_nowhere(deployment: Deployment, database: Engine) -> None:
    spool = deployment.spool()
    spool.append([NewRecord(png(i), headers=(("drill", b"1"),)) for i in range(10)])
    spool.close()
    assert deployment.drain().scored == 10
    assert query(database, "SELECT (SELECT count(*) FROM roll_up_part), (SELECT count(*) FROM sample)") == [(0, 0)]
    assert query(database, "SELECT sum(drill) FROM score") == [(10,)]


def test_what_retention_deleted_unread_is_accounted_for(deployment: Deployment, database: Engine) -> None:
    from datetime import UTC, datetime, timedelta

    from pipeline.ingest.spool import Retention

    deployment.produce([png(i) for i in range(30)])
    deployment.drain()
    spool = deployment.spool()
    old = datetime(2026, 1, 1, tzinfo=UTC)
    spool.append([NewRecord(png(i), timestamp=old) for i in range(10)])
    spool.append([NewRecord(png(i)) for i in range(5)])
    spool.apply_retention(Retention(max_age=timedelta(hours=1)), now=datetime.now(UTC))
    spool.close()
    progress = deployment.drain()
    assert (progress.scored, progress.expired) == (5, 10)
    account = query(database, "SELECT log_end - start_offset, scored, dead, expired FROM stream")
    assert account == [(45, 35, 0, 10)]
    assert query(database, "SELECT from_offset, to_offset, reason FROM stream_gap") == [(30, 40, "expired")]


def test_reading_from_the_latest_counts_what_was_left_out(deployment: Deployment, database: Engine) -> None:
    deployment.produce([png(i) for i in range(7)])
    stop = threading.Event()
    run_worker(deployment.settings(), start_at="latest", drain=True, stop=stop)
    deployment.produce([png(i) for i in range(3)])
    run_worker(deployment.settings(), start_at="earliest", drain=True, stop=stop)
    assert query(database, "SELECT scored, skipped, log_end FROM stream") == [(3, 7, 10)]


def test_a_topic_made_anew_under_its_name_gets_a_stream_of_its_own(deployment: Deployment, database: Engine) -> None:
    deployment.produce([png(i) for i in range(12)])
    deployment.drain()
    shutil.rmtree(deployment.home / "spool")
    deployment.produce([png(100 + i) for i in range(20)])
    deployment.drain()
    assert query(database, "SELECT scored FROM stream ORDER BY id") == [(12,), (20,)]


def test_a_worker_without_a_reference_names_the_cure(template: Deployment, tmp_path: Path) -> None:
    (tmp_path / "tiny").symlink_to(template.home / "tiny")
    deployment = Deployment(tmp_path)
    deployment.produce([png(1)])
    with pytest.raises(UsageError, match="oodwatch calibrate"):
        deployment.drain()


def test_a_model_that_fails_on_most_images_stops_the_worker(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.errors import ModelFailure

    monkeypatch.setenv("TINY_MAGIC", "nan")
    deployment.produce([png(i, magic=i % 3 > 0) for i in range(1600)])
    with pytest.raises(ModelFailure, match="check weights"):
        deployment.drain()


def test_the_hashes_of_all_rows_are_the_hashes_of_what_was_sent(deployment: Deployment, database: Engine) -> None:
    values = [png(i % 40) for i in range(80)]
    deployment.produce(list(values))
    deployment.drain()
    stored = Counter(row[0] for row in query(database, "SELECT value_sha256 FROM score"))
    assert stored == Counter(hashlib.sha256(value).digest() for value in values)


def test_scores_of_one_batch_do_not_depend_on_its_neighbours() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    features = np.zeros((6, 2), np.float32)
    together = score_logits(Outputs(logits, features)).energy
    alone = [score_logits(Outputs(logits[i : i + 1], features[i : i + 1])).energy[0] for i in range(6)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
