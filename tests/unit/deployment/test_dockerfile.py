import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dashboard.gates import PROBES
from pipeline.cli.app import app
from pipeline.settings import load_settings
from tests.unit.deployment.compose import OURS, ROOT
from tests.unit.deployment.dockerfile import FILE, lineage, stages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = ["dashboard", "slim", "worker-cpu", "worker-gpu"]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is installed on Linux only")
    done = subprocess.run([hadolint, FILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_targets_of_the_compose_file_exist_and_the_smallest_one_is_the_default() -> None:
    assert {service["build"]["target"] for service in OURS.values()} == set(TARGETS)
    assert list(stages())[-1] == "slim"


@pytest.mark.parametrize("target", TARGETS)
def test_every_image_runs_as_a_user_without_rights_and_without_the_tools_of_its_build(target: str) -> None:
    line = lineage(target)
    assert line[0].base == "${PYTHON_IMAGE}"
    assert "build" not in {stage.name for stage in line}
    assert [user for stage in line for user in stage.all("USER")] == ["10001:10001"]
    assert [entry for stage in line for entry in stage.all("ENTRYPOINT")] == ['["oodwatch"]']


@pytest.mark.parametrize("target", ["worker-cpu", "worker-gpu"])
def test_a_worker_is_asked_for_its_health_by_a_command_that_exists(target: str) -> None:
    (check,) = [words for stage in lineage(target) for words in stage.all("HEALTHCHECK")]
    program, *words = json.loads(check.split(" CMD ")[1])
    assert program == "oodwatch"
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0, result.output


def test_the_dashboard_is_asked_for_its_health_where_nobody_has_to_sign_in() -> None:
    line = lineage("dashboard")
    (check,) = [words for stage in line for words in stage.all("HEALTHCHECK")]
    program, _, code = json.loads(check.split(" CMD ")[1])
    assert program == "python"
    compile(code, "HEALTHCHECK", "exec")
    (path,) = re.findall(r"'GET', '([^']+)'", code)
    assert path in PROBES
    (port,) = [words for stage in line for words in stage.all("EXPOSE")]
    assert f"'127.0.0.1', {port}," in code
    assert int(port) == load_settings().dashboard.port
    libraries = next(words.split()[0] for words in line[-1].all("COPY")).removeprefix("--from=")
    assert "--extra dashboard" in " ".join(lineage(libraries)[-1].all("RUN"))


@pytest.mark.parametrize(
    ("target", "torch"), [("dashboard", False), ("slim", False), ("worker-cpu", True), ("worker-gpu", True)]
)
def test_only_workers_hold_torch(target: str, torch: bool) -> None:
    libraries = next(words.split()[0] for words in lineage(target)[-1].all("COPY"))
    stage = lineage(libraries.removeprefix("--from="))
    runs = " ".join(run for one in stage for run in one.all("RUN"))
    assert ("--extra worker" in runs) is torch
    assert ("requirements-torch.lock" in runs) is torch


def test_every_library_is_installed_by_its_hash() -> None:
    installs = [
        command
        for stage in stages().values()
        for run in stage.all("RUN")
        for command in re.split(r"&&|\|\||;", run)
        if "pip install" in command
    ]
    by_hash = [command for command in installs if "--require-hashes" in command]
    others = [command.split()[-1] for command in installs if "--require-hashes" not in command]
    assert len(by_hash) == 5
    # uv itself, the project, and the CPU build of torch, which is in no lock.
    assert others == ['"uv==${UV_VERSION}"', ".", '"${torch}"']


def test_versions_agree_with_those_of_the_project() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (uv,) = re.findall(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert f"UV_VERSION={uv}" in stages()["build"].all("ARG")
    assert f'org.opencontainers.image.version="{PROJECT["version"]}"' in stages()["runtime"].all("LABEL")[0]
    python = re.findall(r"^ARG PYTHON_IMAGE=python:(\d+)\.(\d+)\.\d+-slim-\w+$", FILE.read_text(), re.MULTILINE)
    assert python == [("3", "12")]


def test_no_server_is_named() -> None:
    assert "://" not in FILE.read_text(encoding="utf-8")


def test_what_is_copied_is_what_the_context_holds() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {
        source
        for stage in stages().values()
        for words in stage.all("COPY")
        if not words.startswith("--from=")
        for source in words.split()[:-1]
    }
    assert "*" in ignore
    for source in copied:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed)
    for pattern in allowed:
        assert any(fnmatch.fnmatch(source, pattern) for source in copied)
