"""A deployment to work with: calibrated once, copied for each test."""

from pathlib import Path

import pytest

from tests.tiny import Deployment, make_deployment


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Packaged and calibrated; nobody writes to it."""
    return make_deployment(tmp_path_factory.mktemp("template"))


@pytest.fixture
def deployment(template: Deployment, tmp_path: Path) -> Deployment:
    """A fresh database and spool; package and images are shared, for they never change."""
    for name in ("tiny", "calibration"):
        (tmp_path / name).symlink_to(template.home / name)
    (tmp_path / "oodwatch.db").write_bytes((template.home / "oodwatch.db").read_bytes())
    return Deployment(tmp_path)
