"""Every check, once in health and once for each of its ailments."""

import importlib.util
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import text

from pipeline.doctor import source as source_module
from pipeline.doctor.database import check_database, judge_clock
from pipeline.doctor.examination import CHECKS, examine, exit_code
from pipeline.doctor.finding import Finding
from pipeline.doctor.machine import check_disk, check_state_folder, judge_space
from pipeline.doctor.model import check_device, check_package, check_reference, judge_size
from pipeline.doctor.software import check_checksums, check_codecs, check_packages, check_python, judge_packages
from pipeline.doctor.source import check_source
from pipeline.errors import EnvironmentFault, UsageError
from pipeline.ingest.source import NewRecord
from pipeline.models.classifier import Classifier
from pipeline.models.package import WEIGHTS_FILE
from pipeline.records import Outputs
from pipeline.settings import Settings, SourceSettings, load_settings
from pipeline.storage.engine import make_engine
from tests.tiny import Deployment, make_deployment, png


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    deployment = make_deployment(tmp_path_factory.mktemp("template"))
    deployment.produce([png(1)], partitions=2)
    return deployment


@pytest.fixture
def deployment(template: Deployment, tmp_path: Path) -> Deployment:
    shutil.copytree(template.home, tmp_path, dirs_exist_ok=True)
    return Deployment(tmp_path)


def settings(deployment: Deployment, **changed: object) -> Settings:
    values = {**dict(deployment.settings()), "state_dir": deployment.home / "state", **changed}
    return load_settings(**values)


def states(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.state) for finding in findings]


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_healthy_deployment_passes_every_check_and_is_left_as_it_was(deployment: Deployment) -> None:
    before = {path: path.read_bytes() for path in deployment.home.rglob("*.db")}
    found = list(examine(settings(deployment, channels=[{"name": "log", "kind": "stdout"}])))
    assert [finding.check for finding in found] == [
        *("python", "packages", "crc32c", "codecs", "state", "disk", "source", "clock"),
        *("database", "writing", "model", "device", "reference", "channels"),
    ]
    assert {finding.state for finding in found} <= {"ok", "warning"}
    assert exit_code(found) == 0
    assert {path: path.read_bytes() for path in deployment.home.rglob("*.db")} == before


def test_what_is_not_configured_is_skipped_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(examine(load_settings(state_dir=tmp_path / "state")))
    skipped = [finding.check for finding in found if finding.state == "skipped"]
    assert skipped == ["source", "model", "device", "reference", "channels"]
    assert exit_code(found) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_fails_hides_no_other_whatever_it_raises() -> None:
    def broken(error: Exception) -> Iterator[Finding]:
        yield Finding("first", "ok", "so far")
        raise error

    checks = [
        ("usage", lambda s: broken(UsageError("bad url postgresql://u:secret@h"))),
        ("environment", lambda s: broken(EnvironmentFault("down"))),
        ("unforeseen", lambda s: broken(ZeroDivisionError("by zero"))),
        ("last", lambda s: iter([Finding("last", "ok", "fine")])),
    ]
    found = list(examine(load_settings(), checks))
    assert [(finding.check, finding.state, finding.exit_code) for finding in found if finding.check != "first"] == [
        ("usage", "failed", 2),
        ("environment", "failed", 4),
        ("unforeseen", "failed", 4),
        ("last", "ok", 0),
    ]
    assert found[1].found == "bad url postgresql://u:***@h"
    assert [exit_code(found), exit_code(found[2:]), exit_code(found[6:])] == [2, 4, 0]


def test_every_check_is_one_line_with_its_cure() -> None:
    finding = Finding("disk", "warning", "/: 0.5 GiB free", "free some space")
    assert finding.as_text() == "warning  disk       /: 0.5 GiB free; free some space"
    assert finding.as_dict() == {
        "check": "disk",
        "state": "warning",
        "found": "/: 0.5 GiB free",
        "cure": "free some space",
    }
    assert len({name for name, _ in CHECKS}) == len(CHECKS) == 12


def test_a_python_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(check_python(load_settings())).state == "ok"
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    failed = only(check_python(load_settings()))
    assert (failed.state, failed.found, failed.cure) == ("failed", "3.9.1", "use Python >=3.11")


def test_missing_and_untested_packages_are_named() -> None:
    wanted = ["numpy>=2.2", "torch>=2.9; extra == 'worker'", "pytest; extra == 'dev'"]
    assert judge_packages(wanted, {"numpy": "2.4", "torch": "2.15.0+cpu"}.get).state == "ok"
    missing = judge_packages(wanted, {"numpy": "1.0"}.get)
    assert (missing.state, missing.found) == ("failed", "missing: torch")
    untested = judge_packages(wanted, {"numpy": "1.0", "torch": "2.9"}.get)
    assert (untested.state, untested.found) == ("warning", "untested: numpy 1.0 (needs >=2.2)")
    assert only(check_packages(load_settings())).state == "ok"


@pytest.mark.parametrize(("url", "state"), [("spool:s/images", "warning"), ("kafka://h:9092/images", "failed")])
def test_what_the_kafka_client_lacks_fails_only_where_kafka_is_read(
    url: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = load_settings(source=SourceSettings(url=url))
    assert (only(check_checksums(configured)).state, only(check_codecs(configured)).state) == ("ok", "ok")
    absent = {"crc32c"}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    lacking = only(check_checksums(configured))
    assert (lacking.state, lacking.cure) == (state, "pip install crc32c")
    absent.add("zstandard")
    assert (only(check_codecs(configured)).state, only(check_codecs(configured)).found[:13]) == (state, "missing: zstd")
    absent.add("kafka")
    assert only(check_codecs(configured)).state == state


def test_a_state_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    assert "made on first use" in only(check_state_folder(load_settings(state_dir=tmp_path / "a" / "b"))).found
    (tmp_path / "file").write_text("")
    failed = only(check_state_folder(load_settings(state_dir=tmp_path / "file")))
    assert (failed.state, failed.exit_code) == ("failed", 4)
    assert "OODWATCH_STATE_DIR" in failed.cure


@pytest.mark.parametrize(("free", "state"), [(100 * 2**20 - 1, "failed"), (100 * 2**20, "warning"), (2**30, "ok")])
def test_scarce_disk_space_warns_and_too_little_fails(free: int, state: str) -> None:
    assert judge_space(Path("/var"), free).state == state


def test_the_disk_of_the_state_folder_and_of_the_database_file_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    space = {tmp_path / "here": 2**33, tmp_path / "there": 5}
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=space[place]))
    configured = load_settings(state_dir=tmp_path / "here", database=f"sqlite:///{tmp_path / 'there' / 'o.db'}")
    assert states(check_disk(configured)) == [("disk", "ok"), ("disk", "failed")]


def test_an_unknown_topic_and_a_bad_url_fail(deployment: Deployment, tmp_path: Path) -> None:
    (found, clock) = check_source(settings(deployment))
    assert (found.state, clock.state) == ("ok", "ok")
    assert "2 partitions, 1 offsets" in found.found
    with pytest.raises(EnvironmentFault, match="no topic at"):
        list(check_source(settings(deployment, source=SourceSettings(url=f"spool:{tmp_path}/none"))))
    with pytest.raises(UsageError, match="spool:DIR/topic"):
        list(check_source(settings(deployment, source=SourceSettings(url="spool:x"))))


def test_a_topic_without_partitions_fails(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty:
        name = "images"

        def topic_id(self) -> str:
            return "id"

        def bounds(self) -> list[object]:
            return []

        def close(self) -> None:
            pass

    monkeypatch.setattr(source_module, "open_topic", lambda url, kafka: Empty())
    assert only(check_source(settings(deployment))).found == "topic images has no partition"


def test_records_from_the_future_tell_of_a_wrong_clock(deployment: Deployment) -> None:
    spool = deployment.spool()
    spool.append([NewRecord(png(1), timestamp=datetime.now(UTC) + timedelta(hours=1))])
    spool.close()
    _, clock = check_source(settings(deployment))
    assert (clock.check, clock.state) == ("clock", "warning")
    assert clock.found.startswith("1 partitions of images hold records more than 5 min ahead")


def test_a_database_of_another_revision_fails_and_one_that_is_missing_is_not_made(deployment: Deployment) -> None:
    configured = settings(deployment)
    assert states(check_database(configured)) == [("database", "ok"), ("writing", "ok")]
    engine = make_engine(deployment.database)
    with engine.begin() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    failed = only(check_database(configured))
    assert (failed.state, failed.exit_code) == ("failed", 2)
    assert "newer oodwatch" in failed.found
    missing = deployment.home / "none" / "o.db"
    assert "first use" in only(check_database(settings(deployment, database=f"sqlite:///{missing}"))).found
    assert not missing.parent.exists()


def test_a_database_that_cannot_be_read_or_written_fails(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(EnvironmentFault, match="not a database"):
        list(check_database(settings(deployment, database=f"sqlite:///{tmp_path / 'x.db'}")))
    engine = make_engine(deployment.database)
    with engine.begin() as conn:
        conn.execute(text("CREATE TRIGGER no BEFORE INSERT ON process BEGIN SELECT RAISE(ABORT, 'readonly'); END"))
    engine.dispose()
    findings = check_database(settings(deployment))
    assert next(findings).state == "ok"
    with pytest.raises(EnvironmentFault, match="may be written"):
        next(findings)


@pytest.mark.parametrize(
    ("ahead_s", "state", "found"),
    [
        (0.0, "ok", "0.0 s behind"),
        (-2.0, "ok", "2.0 s behind"),
        (2.1, "warning", "2.1 s ahead of"),
        (-300.0, "warning", "300.0 s behind"),
        (3600.0, "failed", "3600.0 s ahead of"),
    ],
)
def test_a_clock_that_disagrees_warns_and_beyond_the_tolerance_fails(ahead_s: float, state: str, found: str) -> None:
    finding = judge_clock(timedelta(seconds=ahead_s), timedelta(minutes=5))
    assert finding.state == state
    assert found in finding.found


def test_a_package_that_is_broken_fails_and_a_whole_one_tells_its_digest(deployment: Deployment) -> None:
    whole = only(check_package(settings(deployment)))
    assert whole.state == "ok"
    assert len(whole.found.rpartition("sha256 ")[2]) == 64
    (deployment.model / WEIGHTS_FILE).write_bytes(b"rubbish")
    found = list(examine(settings(deployment), [("device", check_device), ("reference", check_reference)]))
    assert [(finding.state, finding.exit_code) for finding in found] == [("failed", 2), ("failed", 2)]
    assert "oodwatch calibrate" in found[1].found  # other weights are another model, without a reference
    shutil.rmtree(deployment.model)
    assert only(examine(settings(deployment), [("model", check_package)])).exit_code == 2


def test_a_forward_pass_that_is_not_finite_fails(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(check_device(settings(deployment))).found.startswith("cpu, float32: one image in ")
    nothing = Outputs(np.full((1, 3), np.nan, np.float32), np.zeros((1, 12), np.float32))
    monkeypatch.setattr(Classifier, "predict", lambda self, batch: nothing)
    failed = only(check_device(settings(deployment)))
    assert (failed.state, failed.cure) == ("failed", "check weights and dtype")


def test_a_reference_that_does_not_fit_fails(deployment: Deployment, tmp_path: Path) -> None:
    assert only(check_reference(settings(deployment))).state == "warning"  # of 220 images
    with pytest.raises(UsageError, match="was made with dtype"):
        list(check_reference(settings(deployment, worker={"dtype": "bfloat16"})))
    with pytest.raises(UsageError, match="no reference is named 'r9'"):
        list(check_reference(settings(deployment, reference="r9")))
    missing = only(check_reference(settings(deployment, database=f"sqlite:///{tmp_path / 'none.db'}")))
    assert (missing.state, missing.exit_code) == ("failed", 2)


@pytest.mark.parametrize(("n", "state"), [(199, "warning"), (1_379, "warning"), (1_380, "ok")])
def test_a_small_reference_warns(n: int, state: str) -> None:
    assert judge_size("m-r1", n).state == state
