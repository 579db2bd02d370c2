"""A deployment to work with, calibrated once and copied for each test; and its command line."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli.app import main
from tests.integration.typing_commands import Answer, Command
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


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs the command line in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def typed(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["oodwatch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return Answer(int(end.value.code or 0), printed.out, printed.err)

    yield typed
    for number, handler in handlers.items():
        signal.signal(number, handler)  # commands that run have set their own
