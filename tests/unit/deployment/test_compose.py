import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from dashboard.serving import Place, names_of
from pipeline.cli.app import app
from pipeline.settings import load_settings
from tests.unit.deployment.compose import (
    COMPOSE,
    FILE,
    OURS,
    ROOT,
    SERVICES,
    documented_variables,
    variables,
)
from tests.unit.deployment.dockerfile import lineage

ONE_SHOTS = {"migrate", "worker-role", "dashboard-roles", "topics", "calibrate"}
PASSWORDS = ["owner_password", "worker_password", "dashboard_password", "operator_password"]


def test_the_file_is_valid_by_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    compose = [docker or "", "compose"]
    if docker is None or subprocess.run([*compose, "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker client with compose here")
    environment = tmp_path / "env"
    lines = {**documented_variables(), "KAFKA_CLUSTER_ID": "x" * 22}
    environment.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    command = [*compose, "--env-file", str(environment), "--file", str(FILE), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_variable_is_documented_with_its_default_and_no_other_is() -> None:
    documented = documented_variables()
    assert {variable.name for variable in variables()} == set(documented)
    for variable in variables():
        if variable.default is not None:
            assert documented[variable.name] == variable.default


def test_what_has_no_default_is_refused_with_the_cure() -> None:
    required = {variable.name for variable in variables() if variable.default is None}
    assert required == {"KAFKA_CLUSTER_ID", "SECRETS_DIR"}
    text = FILE.read_text(encoding="utf-8")
    for name in required:
        assert f"${{{name}:?run `make secrets` once}}" in text


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_that_the_command_line_knows(name: str) -> None:
    result = CliRunner().invoke(app, [*OURS[name]["command"], "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_a_container_is_a_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = OURS[name]["environment"]
    assert environment
    for variable, value in environment.items():
        assert variable.startswith("OODWATCH_")
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    for variable, value in environment.items():
        stored: Any = settings
        for part in variable.removeprefix("OODWATCH_").lower().split("__"):
            stored = stored[part] if isinstance(stored, Mapping) else getattr(stored, part)
        assert (json.dumps(stored) if isinstance(stored, tuple) else str(stored)) == value


def test_each_container_holds_the_password_of_its_own_role_and_no_other() -> None:
    held = {name: service.get("secrets", []) for name, service in SERVICES.items()}
    assert held == {
        "kafka": [],
        "db": ["owner_password"],
        "migrate": ["owner_password"],
        "worker-role": ["owner_password", "worker_password"],
        "dashboard-roles": ["owner_password", "dashboard_password", "operator_password"],
        "dashboard": ["dashboard_password", "operator_password"],
        "topics": [],
        "calibrate": ["owner_password"],
        "monitor": ["worker_password"],
        "worker-gpu": ["worker_password"],
        "worker-cpu": ["worker_password"],
    }
    roles = {
        "owner_password": "oodwatch",
        "worker_password": "worker",
        "dashboard_password": "dashboard",
        "operator_password": "operator",
    }
    for name, service in OURS.items():
        for secret, of in zip(held[name], ("", "DASHBOARD__OPERATOR_"), strict=False):
            assert service["environment"][f"OODWATCH_{of}{'' if of else 'DATABASE_'}PASSWORD_FILE"].endswith(
                f"/{secret}"
            )
            assert make_url(service["environment"][f"OODWATCH_{of}DATABASE"]).username == roles[secret]
        assert bool(held[name]) is ("OODWATCH_DATABASE" in service["environment"])


def test_no_password_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or variable.endswith("_FILE")
            assert not variable.endswith("DATABASE") or make_url(value).password is None
    assert COMPOSE["secrets"] == {name: {"file": f".secrets/{name}"} for name in PASSWORDS}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"memory", "pids"}
    # Kafka's image writes its settings below its root.
    assert service.get("read_only", False) is (name != "kafka")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_watched_or_runs_once(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOTS:
        assert service["restart"] == "no"
        return
    assert service["restart"] == "unless-stopped"
    if "healthcheck" not in service:
        checks = [check for stage in lineage(service["build"]["target"]) for check in stage.all("HEALTHCHECK")]
        assert len(checks) == 1
    elif "build" in service:
        program, *words = service["healthcheck"]["test"][1:]
        assert program == "oodwatch"
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
    else:
        assert service["healthcheck"]["test"][0].startswith("CMD")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_can_become_true(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        assert "profiles" not in SERVICES[other]  # it would not be started
        expected = "service_completed_successfully" if other in ONE_SHOTS else "service_healthy"
        assert wait == {"condition": expected}


def test_images_from_elsewhere_are_pinned_and_our_own_are_named_by_their_target() -> None:
    elsewhere = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}
    postgres = "postgres:17.10"
    assert elsewhere == {
        "kafka": "apache/kafka:4.1.1",
        "db": postgres,
        "worker-role": postgres,
        "dashboard-roles": postgres,
    }
    for service in OURS.values():
        assert service["image"] == f"oodwatch:{service['build']['target']}"


def test_workers_differ_in_what_two_of_them_must_not_share() -> None:
    workers = {name: service for name, service in OURS.items() if service["command"] == ["worker"]}
    assert {name: service["profiles"] for name, service in workers.items()} == {
        "worker-gpu": ["gpu"],
        "worker-cpu": ["cpu"],
    }
    for name, service in workers.items():
        assert service["environment"]["OODWATCH_SOURCE__KAFKA__GROUP_INSTANCE_ID"] == name
        assert service["container_name"] == f"oodwatch-{name}"
        assert service["stop_grace_period"] == "45s"
    assert len({service["ports"][0] for service in workers.values()}) == len(workers)


def test_every_volume_that_is_used_exists() -> None:
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str)
    }
    assert used == set(COMPOSE["volumes"])


def test_make_secrets_makes_what_the_file_asks_for_and_keeps_what_exists(tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make here")
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, tmp_path)
    made: list[list[str]] = []
    passwords = [tmp_path / ".secrets" / name for name in PASSWORDS]
    for _ in range(2):
        subprocess.run([make, "secrets"], cwd=tmp_path, check=True, capture_output=True, umask=0o077)
        made.append([path.read_text() for path in (tmp_path / ".env", *passwords)])
    assert made[0] == made[1]
    assert {path.stat().st_mode & 0o777 for path in passwords} == {0o444}
    assert (tmp_path / ".secrets").stat().st_mode & 0o777 == 0o700
    environment, *made_up = made[0]
    lines = dict(line.split("=", 1) for line in environment.splitlines() if "=" in line and line[0] != "#")
    assert {**lines, "KAFKA_CLUSTER_ID": ""} == documented_variables()
    assert re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_-]{21}", lines["KAFKA_CLUSTER_ID"])
    assert {len(password.strip()) for password in made_up} == {32}
    assert len(set(made_up)) == len(PASSWORDS)


def test_the_dashboard_is_reached_from_this_machine_alone_and_under_its_own_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in SERVICES["dashboard"]["environment"].items():
        monkeypatch.setenv(variable, value)
    chosen = load_settings().dashboard
    place = Place(chosen.address, chosen.port, chosen.hosts, insecure=chosen.insecure)
    place.check()
    assert names_of(place) == ["localhost", "localhost", "127.0.0.1", "::1", "0.0.0.0"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["dashboard"]["ports"])
