"""The Dockerfile followed by hand, without an engine: everything but its base image and its user."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unit.deployment.compose import ROOT
from tests.unit.deployment.dockerfile import Instruction, Stage, stages

TARGETS = os.environ.get("OODWATCH_REPLAY", "").split()  # noqa: TID251 tests have no settings
pytestmark = pytest.mark.skipif(not TARGETS, reason="asks the package index; OODWATCH_REPLAY=slim runs it")


def _link(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)  # a later layer wins
    os.link(source, target)


@dataclass
class Replay:
    """Runs stages one after the other with `root` for their /; each one starts from a copy of its base."""

    root: Path
    saved: Path
    done: set[str] = field(default_factory=set)

    def run(self, name: str) -> None:
        """Leave `root` as the stage of this name leaves it."""
        stage = stages()[name]
        if name not in self.done:
            for other in self._needs(stage):
                self.run(other)
            self._restore(stage.base)
            self._follow(stage)
            shutil.copytree(self.root, self.saved / name, symlinks=True, copy_function=_link)
            self.done.add(name)
        self._restore(name)

    def _needs(self, stage: Stage) -> list[str]:
        copied = [found[1] for words in stage.all("COPY") if (found := re.match(r"--from=(\S+)", words))]
        return [other for other in (stage.base, *copied) if other in stages()]

    def _restore(self, name: str) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        if name in self.done:
            shutil.copytree(self.saved / name, self.root, symlinks=True, copy_function=_link)
        else:
            (self.root / "opt").mkdir(parents=True)

    def _follow(self, stage: Stage) -> None:
        for one in stage.instructions:
            if one.keyword == "COPY":
                self._copy(one.words)
            elif one.keyword == "RUN" and stage.name != "runtime":  # it makes the user
                self._command(stage, one)

    def _copy(self, words: str) -> None:
        *sources, target = words.split()
        if sources[0].startswith("--from="):
            shutil.copytree(
                self.saved / sources[0].removeprefix("--from=") / sources[1].lstrip("/"),
                self.root / target.lstrip("/"),
                symlinks=True,
                copy_function=_link,
                dirs_exist_ok=True,
            )
            return
        (self.root / "src").mkdir(exist_ok=True)
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, self.root / "src" / target)
            else:
                shutil.copy(ROOT / source, self.root / "src")

    def _command(self, stage: Stage, one: Instruction) -> None:
        given = [f"export {words}" for words in stages()["build"].all("ARG") if "=" in words]
        given += [f"export {words}" for words in stages()["build"].all("ENV")]
        words = re.sub(r"--mount=\S+ ", "", one.words)
        script = re.sub(r"(?<![\w.])/opt/", f"{self.root}/opt/", "\n".join([*given, words]))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # noqa: TID251 of the commands, no setting
        directory = self.root / "src" if (self.root / "src").exists() else self.root
        environment = {**os.environ, "PATH": path}  # noqa: TID251 the same
        done = subprocess.run(
            ["sh", "-euc", script], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{stage.name}: {words}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_holds_the_versions_of_the_locks_and_runs(target: str, tmp_path: Path) -> None:
    Replay(tmp_path / "image", tmp_path / "saved").run(target)
    binaries = tmp_path / "image" / "opt" / "oodwatch" / "bin"
    for words in (["--help"], ["migrate", "--help"], ["migrate", "--database", f"sqlite:///{tmp_path}/scores.db"]):
        subprocess.run([binaries / "oodwatch", *words], check=True, capture_output=True)
    listing = (
        "import json; from importlib.metadata import distributions;"
        " print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in distributions()}))"
    )
    printed = subprocess.run([binaries / "python", "-c", listing], check=True, capture_output=True, text=True).stdout
    installed: dict[str, str] = json.loads(printed)
    assert installed.pop("oodwatch") == "0.1.0"
    locked = (ROOT / "requirements.lock").read_text() + (ROOT / "requirements-torch.lock").read_text()
    pins = set(re.findall(r"^([a-z0-9-]+)==(\S+)", locked, re.MULTILINE))
    assert {(name, version.removesuffix("+cpu")) for name, version in installed.items()} <= pins
    assert ("torch" in installed) is (target != "slim")
    assert {"kafka-python", "crc32c", "psycopg-binary"} <= set(installed)
    assert not {"mypy", "pytest", "uv", "pip", "hatchling", "scikit-learn"} & set(installed)
