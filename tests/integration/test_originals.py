"""Originals of samples, read again from the log that the worker read."""

import io
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine, select

from dashboard.originals import Expired, Original
from pipeline.assembly.originals import LogOriginals
from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.spool import Retention, SpoolTopic
from pipeline.storage.engine import open_database
from pipeline.storage.schema import SampleRow
from tests.tiny import Deployment, make_deployment, pixels, png


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Twelve scored images."""
    deployment = make_deployment(tmp_path_factory.mktemp("template"))
    deployment.produce([png(i) for i in range(12)])
    deployment.drain()
    return deployment


@pytest.fixture
def site(template: Deployment, tmp_path: Path) -> Deployment:
    """A copy whose log may be hurt."""
    return Deployment(shutil.copytree(template.home, tmp_path / "site"))


def originals(site: Deployment, engine: Engine, source: str | None = None) -> LogOriginals:
    return LogOriginals(site.settings(), source or site.source, engine)


def sample_at(engine: Engine, offset: int) -> int:
    with engine.connect() as conn:
        key = conn.scalar(select(SampleRow.id).where(SampleRow.offset == offset).limit(1))
    assert key is not None
    return key


def test_an_original_is_the_image_itself_encoded_anew(site: Deployment) -> None:
    engine = open_database(site.database)
    found = originals(site, engine).read(sample_at(engine, 5))
    assert isinstance(found, Original)
    assert found[1:] == (8, 8, "png", len(png(5)))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found.png))), pixels(5))
    engine.dispose()


def test_what_retention_has_deleted_has_expired_and_where_the_log_begins_is_told(site: Deployment) -> None:
    engine = open_database(site.database)
    with engine.connect() as conn:
        first, *_, last = conn.scalars(select(SampleRow.offset).distinct().order_by(SampleRow.offset)).all()
    spool = site.spool()
    spool.apply_retention(Retention(max_bytes=(12 - last) * len(png(last)) + 100), now=datetime.now(UTC))
    spool.close()
    (bounds,) = SpoolTopic(site.home / "spool", "images").bounds()
    assert first < bounds.beginning <= last
    assert originals(site, engine).read(sample_at(engine, first)) == Expired(bounds.beginning, 12)
    assert isinstance(originals(site, engine).read(sample_at(engine, last)), Original)
    engine.dispose()


def test_what_was_erased_another_log_a_lost_sample_and_no_log_at_all_are_told_apart(
    site: Deployment, tmp_path: Path
) -> None:
    engine = open_database(site.database)
    key = sample_at(engine, 5)
    SpoolTopic(site.home / "spool", "images").erase([(0, 5)])
    other = Deployment(tmp_path / "other")
    other.produce([png(5)] * 12)
    cases = [
        (site.source, key, UsageError, "erased or overwritten"),
        (site.source, 4711, UsageError, "no longer kept"),
        (other.source, key, UsageError, "deleted and made anew"),
        (site.source.replace("/images", "/others"), key, UsageError, "the source of these pages is others"),
        (f"spool:{tmp_path / 'gone'}/images", key, EnvironmentFault, "no topic at"),
    ]
    for source, sample, kind, said in cases:
        with pytest.raises(kind, match=said):
            originals(site, engine, source).read(sample)
    engine.dispose()
