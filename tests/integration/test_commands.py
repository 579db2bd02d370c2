"""The commands, as a person types them."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner, Result

from pipeline.cli.app import app
from pipeline.errors import OodwatchError
from tests.shared_data import cifar
from tests.tiny import Deployment, make_deployment, png

RESNET20 = Path(__file__).parents[1] / "golden" / "resnet20.py"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(result: Result) -> list[dict[str, object]]:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def failure(result: Result) -> OodwatchError:
    assert isinstance(result.exception, OodwatchError), result.exception
    assert "\n" not in str(result.exception)
    return result.exception


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return make_deployment(tmp_path)


def test_the_evaluation_images_score_as_published_and_pass_through_the_spool(tmp_path: Path) -> None:
    home = cifar()
    database, source = f"sqlite:///{tmp_path / 'o.db'}", f"spool:{tmp_path / 'spool'}/images"
    classes = json.loads((home / "expected.json").read_text())["classes"]
    (tmp_path / "classes.txt").write_text("\n".join(classes))
    weights = home / "weights" / "resnet20-12fca82f.th"
    model = tmp_path / "resnet20"
    made = run(
        *("package", model, "--architecture", f"{RESNET20}:resnet20", "--weights", weights, "--head", "linear"),
        *("--classes", tmp_path / "classes.txt", "--input-size", 32),
        *("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"),
    )
    assert made.exit_code == 0, made.output
    sets = [home / name for name in ("id", "ood", "drift")]
    scored = {str(line["file"]): line for line in lines(run("score", *sets, "--model", model, "--json"))}
    with (home / "scores.csv").open(newline="") as published:
        rows = list(csv.DictReader(published))
    assert len(rows) == len(scored) == 4200
    for row in rows:
        line = scored[(home / row["file"]).as_posix()]
        assert line["energy"] == pytest.approx(float(row["energy"]), abs=1e-4)
        assert line["class_index"] == int(row["pred"])
    options = ("--model", model, "--database", database, "--json")
    (reference,) = lines(run("calibrate", home / "id", *options))
    assert reference["threshold"] == pytest.approx(-6.7415, abs=1e-4)
    assert (reference["rank"], reference["n"], reference["provisional"]) == (1901, 2000, False)
    assert run("produce", *sets, "--source", source, "--partitions", 3).exit_code == 0
    (summary,) = lines(run("worker", "--source", source, *options, "--drain"))
    assert (summary["scored"], summary["dead_letters"]) == (4200, 0)
    ledger = lines(run("ledger", "--database", database, "--source", source, "--json"))
    assert [(line["produced"], line["scored"], line["waiting"]) for line in ledger] == [(1400, 1400, 0)] * 3
    out = tmp_path / "scores.csv"
    assert run("export", "scores", "--database", database, "--format", "csv", "--out", out).exit_code == 0
    energies = {"/".join(name.split("/")[-2:]): line["energy"] for name, line in scored.items()}
    with out.open(newline="") as exported:
        stored = list(csv.DictReader(exported))
    assert len(stored) == 4200
    for row in stored:
        assert float(row["energy"]) == pytest.approx(energies["/".join(row["id"].split("/")[-2:])], abs=1e-4)


def test_bad_requests_end_with_one_line_and_the_cure(deployment: Deployment, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    options = ("--model", deployment.model, "--database", deployment.database)
    assert "no image in it" in str(failure(run("calibrate", empty, *options)))
    assert "no such file" in str(failure(run("calibrate", tmp_path / "none", *options)))
    for i in range(5):
        (empty / f"{i}.png").write_bytes(png(i))
    few = failure(run("calibrate", empty, *options))
    assert "at least 19" in str(few)
    assert few.exit_code == 3
    text = ("--log-format", "text")
    assert "spool:DIR/topic" in str(failure(run("worker", *options, *text, "--source", "spool:x")))
    assert "oodwatch package" in str(failure(run("score", empty, "--model", tmp_path)))
    assert "write kafka://host:port" in str(failure(run("worker", *options, *text, "--source", "kafka://h:9092")))
    assert "--reason" in str(failure(run("dead-letters", "--reason", "bored", *options[2:])))


def test_a_file_that_cannot_be_scored_is_named_and_the_others_are_scored(
    deployment: Deployment, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(1))
    (folder / "b.png").write_bytes(b"broken")
    result = run("score", folder, "--model", deployment.model, "--json")
    assert result.exit_code == 1
    first, second = lines(result)
    assert first["class"] in {"red", "green", "blue"}
    assert second["file"] == (folder / "b.png").as_posix()
    assert "no image" in str(second["error"])


def test_dead_letters_are_listed_with_their_coordinates(deployment: Deployment) -> None:
    deployment.produce([png(1), b"rubbish", None])
    deployment.drain()
    listed = lines(run("dead-letters", "--database", deployment.database, "--json"))
    assert sorted((line["offset"], line["stage"], line["reason"]) for line in listed) == [
        (1, "decode", "undecodable"),
        (2, "message", "tombstone"),
    ]


@pytest.mark.parametrize("command", [("ledger",), ("dead-letters",), ("export", "scores", "--out", "scores.csv")])
def test_a_deployment_that_is_not_there_is_refused_with_those_that_are(
    deployment: Deployment, command: tuple[str, ...]
) -> None:
    deployment.produce([png(1)])
    deployment.drain()
    error = failure(run(*command, "--database", deployment.database, "--deployment", "tinny"))
    assert str(error) == "no deployment is named 'tinny'; known: tiny"


def test_forgetting_an_id_erases_it_everywhere_and_says_where_copies_remain(
    deployment: Deployment, tmp_path: Path
) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    for i in range(6):
        (folder / f"jane-{i}.png").write_bytes(png(i))
    run("produce", folder, "--source", deployment.source)
    deployment.drain()
    where = ("--database", deployment.database, "--source", deployment.source)
    (erased,) = lines(run("forget", "--id", "jane-3.png", *where, "--yes", "--json"))
    assert (erased["log_values"], erased["scores"]) == (1, 1)
    assert "backups" in str(erased["copies_remain"])
    files = [*(tmp_path / "spool" / "images").iterdir(), *tmp_path.glob("oodwatch.db*")]
    assert not any(b"jane-3.png" in file.read_bytes() for file in files)
    engine = create_engine(deployment.database)
    with engine.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM score")) == 6
        assert conn.scalar(text("SELECT count(*) FROM score WHERE id IS NULL")) == 1
    engine.dispose()


@pytest.mark.parametrize("words", [["--help"], ["ledger"], ["monitor", "--once"], ["references"], ["dead-letters"]])
def test_what_needs_neither_pixels_nor_weights_runs_without_the_libraries_of_workers(
    words: list[str], tmp_path: Path
) -> None:
    run("migrate", "--database", f"sqlite:///{tmp_path}/scores.db")
    missing = ("torch", "PIL", "safetensors", "simplejpeg", "threadpoolctl", "skimage", "sklearn", "pyarrow", "kafka")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r})); sys.argv = ['oodwatch', *{words!r}];"
        " from pipeline.__main__ import main; main()"
    )
    environment = {**os.environ, "OODWATCH_DATABASE": f"sqlite:///{tmp_path}/scores.db"}  # noqa: TID251
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_settings_are_flags_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.settings import load_settings

    monkeypatch.chdir(tmp_path)
    (tmp_path / "oodwatch.toml").write_text(
        'database = "sqlite:///file.db"\ndeployment = "file"\n[worker]\nmax_batch = 7\n'
    )
    monkeypatch.setenv("OODWATCH_DEPLOYMENT", "environment")
    monkeypatch.setenv("OODWATCH_SOURCE", "spool:a/b")
    settings = load_settings(database="sqlite:///flag.db")
    assert (settings.database, settings.deployment, settings.worker.max_batch) == (
        "sqlite:///flag.db",
        "environment",
        7,
    )
    assert settings.source.url == "spool:a/b"


def test_a_setting_that_cannot_be_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.settings import TEMPLATE, load_settings

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OODWATCH_WORKER__MAX_BATCH", "-3")
    with pytest.raises(OodwatchError, match=r"worker\.max_batch"):
        load_settings()
    monkeypatch.delenv("OODWATCH_WORKER__MAX_BATCH")
    (tmp_path / "oodwatch.toml").write_text('database_password = "s3cret"')
    with pytest.raises(OodwatchError, match="database_password: there is no such setting") as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)
    (tmp_path / "oodwatch.toml").write_text(TEMPLATE.replace("# max_", "max_"))
    assert load_settings().worker.max_batch == 256


def start(deployment: Deployment, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipeline", "worker", "--source", deployment.source, "--max-batch", "4"]
    process = subprocess.Popen(
        [*command, "--database", deployment.database, "--model", str(deployment.model)],
        env={**os.environ, **environment},  # noqa: TID251 the child inherits it
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "reading" not in process.stderr.readline():
        assert process.poll() is None
    return process


@pytest.mark.integration
def test_sigterm_ends_the_worker_in_order(deployment: Deployment) -> None:
    deployment.produce([png(i) for i in range(50)])
    process = start(deployment)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=25)
    assert process.returncode == 0
    assert out.startswith("scored ")


@pytest.mark.integration
def test_a_record_that_kills_workers_is_isolated_in_a_child_process(deployment: Deployment) -> None:
    deployment.produce([png(i, magic=i == 9) for i in range(12)])
    codes = []
    for _ in range(6):
        process = start(deployment, TINY_MAGIC="die")
        if _died(process, deployment):
            codes.append(process.returncode)
            process.communicate()
        else:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=25)
            break
    assert 1 <= len(codes) <= 4
    assert set(codes) == {139}
    (letter,) = lines(run("dead-letters", "--database", deployment.database, "--json"))
    assert (letter["offset"], letter["reason"]) == (9, "crash")
    (account,) = lines(run("ledger", "--database", deployment.database, "--json"))
    assert (account["scored"], account["dead"], account["waiting"]) == (11, 1, 0)


def _died(process: "subprocess.Popen[str]", deployment: Deployment) -> bool:
    """Wait until the worker has died (True) or has stored everything (False)."""
    engine = create_engine(deployment.database)
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)
            with engine.connect() as conn:
                if conn.scalar(text("SELECT coalesce(sum(scored + dead), 0) FROM stream")) == 12:
                    return False
        return True
    finally:
        engine.dispose()


@pytest.mark.integration
def test_the_command_line_starts_without_torch_and_without_the_database() -> None:
    code = "import sys, pipeline.cli.app; print(sorted({'torch', 'sqlalchemy', 'PIL', 'numpy'} & sys.modules.keys()))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
