"""What a person may get wrong: each ends the command with one line that says what, where and the cure.

Nothing is half-written: files and tables are the same before and after.
"""

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.calibrate import calibrate
from tests.integration.typing_commands import Command, contents
from tests.tiny import SIDE, Deployment, png

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, end=""):
        super().__init__()
        self.flat = nn.Flatten()
        self.head = nn.Linear(192, 3)
        self.end = nn.Sigmoid() if end == "sigmoid" else nn.Identity()

    def forward(self, images):
        return self.end(self.head(self.flat(images)))

def net(**arguments):
    return Net(**arguments)
"""


class Pickled:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def model_files(tmp_path: Path) -> Path:
    weights = {
        "head.weight": torch.randn(3, 192, generator=torch.Generator().manual_seed(0)),
        "head.bias": torch.zeros(3),
    }
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "two.txt").write_text("red\ngreen\n")
    torch.save(weights, tmp_path / "weights.pt")
    torch.save({**weights, "head.weight": torch.zeros(4, 192)}, tmp_path / "other.pt")
    torch.save({"state_dict": Pickled(tmp_path / "ran")}, tmp_path / "pickled.pt")
    torch.save(weights, tmp_path / "state.pt2")
    return tmp_path


PACKAGES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "a pickled weight file": ({"weights": "pickled.pt"}, ("pickled.pt", "would run code", "Save model.state_dict()")),
    "a wrong class count": (
        {"classes": "two.txt"},
        ("2 class names for a head with 3 outputs", "give one name a line"),
    ),
    "a missing head": ({"head": "classifier"}, ("'classifier' is no layer", "linear layers: head")),
    "weights of wrong shapes": ({"weights": "other.pt"}, ("other.pt", "head.weight (4, 192) instead of (3, 192)")),
    "images of a wrong shape": ({"input-size": "9"}, ("fails on two images of 9 x 9", "check --input-size")),
    "a multi-label model": ({"argument": "end=sigmoid"}, ("multi-label", "only multi-class classifiers")),
    "no such weights": ({"weights": "none.pt"}, ("none.pt", "no such file")),
    "a mean of two numbers": ({"mean": "0,0"}, ("--mean '0,0'", "give three numbers")),
}


@pytest.mark.parametrize("case", PACKAGES)
def test_a_model_that_cannot_be_watched_is_refused(model_files: Path, command: Command, case: str) -> None:
    changes, words = PACKAGES[case]
    options = {
        "architecture": f"{model_files / 'net.py'}:net",
        "weights": "weights.pt",
        "classes": "classes.txt",
        "head": "head",
        "input-size": str(SIDE),
        "mean": "0,0,0",
        "std": "1,1,1",
        **changes,
    }
    for name in ("weights", "classes"):
        options[name] = str(model_files / options[name])
    before = contents(model_files)
    flags = [text for name, value in options.items() for text in (f"--{name}", value)]
    command("package", model_files / "package", *flags).refuses(2, *words)
    assert contents(model_files) == before


def test_a_program_stands_alone_and_nothing_is_optional_without_it(model_files: Path, command: Command) -> None:
    common = ("--classes", model_files / "classes.txt", "--input-size", SIDE, "--mean", "0,0,0", "--std", "1,1,1")
    program = ("--program", model_files / "state.pt2")
    before = contents(model_files)
    for flags, word in (
        (program, "not written by torch.export.save"),
        ((*program, "--head", "head"), "leave the others"),
        (("--head", "head"), "give --architecture, --weights and --head, or --program"),
    ):
        command("package", model_files / "package", *common, *flags).refuses(2, word)
    assert contents(model_files) == before


def test_force_replaces_a_package_and_never_another_folder(model_files: Path, command: Command) -> None:
    before = contents(model_files)
    flags = ("--classes", model_files / "classes.txt", "--input-size", SIDE, "--mean", "0,0,0", "--std", "1,1,1")
    weights = (
        "--architecture",
        f"{model_files / 'net.py'}:net",
        "--weights",
        model_files / "weights.pt",
        "--head",
        "head",
    )
    command("package", model_files, *flags, *weights).refuses(2, "exists", "--force")
    command("package", model_files, *flags, *weights, "--force").refuses(
        2, "is no model package", "name another folder"
    )
    assert contents(model_files) == before


def test_an_empty_or_absent_calibration_folder_is_refused(deployment: Deployment, command: Command) -> None:
    (deployment.home / "empty").mkdir()
    (deployment.home / "list.csv").write_text("file\nnone.png\n")
    before = contents(deployment.home)
    options = ("--model", deployment.model, "--database", deployment.database)
    command("calibrate", deployment.home / "empty", *options).refuses(
        2, "empty: no image in it", "name a folder of images"
    )
    command("calibrate", deployment.home / "none", *options).refuses(2, "none: there is no such file or folder")
    command("calibrate", deployment.home / "list.csv", *options).refuses(2, "list.csv, line 2", "'none.png'")
    assert contents(deployment.home) == before


def test_an_unreadable_calibration_folder_is_refused(
    deployment: Deployment, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: object) -> None:  # modes do not stop root
        raise PermissionError(13, "Permission denied", str(path))

    before = contents(deployment.home)
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", forbidden)
        answer = command(
            "calibrate", deployment.home / "calibration", "--model", deployment.model, "--database", deployment.database
        )
    answer.refuses(2, "calibration: Permission denied", "make the folder readable")
    assert contents(deployment.home) == before


def test_a_folder_without_one_usable_image_is_refused(deployment: Deployment, command: Command) -> None:
    folder = deployment.home / "rubbish"
    folder.mkdir()
    for i in range(30):
        (folder / f"{i:02d}.png").write_bytes(b"rubbish")
    before = contents(deployment.home)
    answer = command("calibrate", folder, "--model", deployment.model, "--database", deployment.database)
    answer.refuses(3, "none of 30 files is an image", "00.png")
    assert contents(deployment.home) == before


def test_too_few_images_are_refused_on_merit(deployment: Deployment, command: Command) -> None:
    folder = deployment.home / "few"
    folder.mkdir()
    for i in range(18):
        (folder / f"{i}.png").write_bytes(png(i))
    before = contents(deployment.home)
    options = ("--model", deployment.model, "--database", deployment.database)
    command("calibrate", folder, *options).refuses(3, "18", "at least 19")
    assert contents(deployment.home) == before


def test_of_two_calibrations_at_once_the_second_to_finish_writes_nothing(
    deployment: Deployment, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (deployment.home / "calibration", "--model", deployment.model, "--database", deployment.database)
    place = "pipeline.assembly.calibrating.calibrate"
    between: list[dict[str, object]] = []

    def overtaken(*arguments: Any, **named: Any) -> Any:
        made = calibrate(*arguments, **named)
        monkeypatch.setattr(place, calibrate)
        assert command("calibrate", *options).code == 0
        between.append(contents(deployment.home))
        return made

    monkeypatch.setattr(place, overtaken)
    command("calibrate", *options).refuses(
        4, "another calibration of tiny has stored tiny-r2", "run `oodwatch calibrate`"
    )
    assert contents(deployment.home) == between[0]


def commands_on(deployment: Deployment) -> dict[str, tuple[object, ...]]:
    """Every command that opens the database, so that it would succeed."""
    model = ("--model", deployment.model)
    return {
        "calibrate": ("calibrate", deployment.home / "calibration", *model),
        "worker": ("worker", "--source", deployment.source, *model, "--drain", "--log-format", "text"),
        "references": ("references",),
        "card": ("card",),
        "ledger": ("ledger",),
        "dead-letters": ("dead-letters",),
        "export": ("export", "scores", "--out", deployment.home / "scores.csv"),
        "forget": ("forget", "--id", "x", "--yes"),
        "migrate": ("migrate",),
    }


@pytest.mark.parametrize(
    "name", ["calibrate", "worker", "references", "card", "ledger", "dead-letters", "export", "forget", "migrate"]
)
def test_a_database_of_a_newer_revision_is_left_alone(deployment: Deployment, command: Command, name: str) -> None:
    deployment.produce([png(1)])
    connection = sqlite3.connect(deployment.home / "oodwatch.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = contents(deployment.home)
    answer = command(*commands_on(deployment)[name], "--database", deployment.database)
    answer.refuses(2, "is of revision 9999", "newer")
    assert contents(deployment.home) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--database", "scores.db"), ("'scores.db'", "write sqlite:///path/to/file.db")),
        (("--database", "mysql://host/name"), ("mysql://host/name", "or postgresql+psycopg://user@host/name")),
        (("--source", "images"), ("'images'", "write spool:DIR/topic")),
    ],
)
def test_urls_that_cannot_be_used_show_how_to_write_one(
    deployment: Deployment, command: Command, flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    command("ledger", "--database", deployment.database, *flags).refuses(2, *words)


def test_a_setting_that_does_not_exist_is_named(
    deployment: Deployment, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = deployment.home / "settings.toml"
    file.write_text('databse = "sqlite:///x.db"\n')
    monkeypatch.setenv("OODWATCH_CONFIG", str(file))
    command("ledger").refuses(2, "databse", "there is no such setting", "oodwatch init")


@pytest.mark.parametrize("name", ["references", "card", "ledger", "dead-letters", "export", "forget"])
def test_a_mistyped_database_is_refused_and_not_made(deployment: Deployment, command: Command, name: str) -> None:
    mistyped = deployment.home / "folder" / "typo.db"
    words = commands_on(deployment)[name]
    command(*words, "--database", f"sqlite:///{mistyped}").refuses(2, "there is no database at", "typo.db")
    assert not mistyped.parent.exists()


def test_a_page_that_cannot_be_written_is_refused_before_the_work(deployment: Deployment, command: Command) -> None:
    page = deployment.home / "nowhere" / "card.html"
    before = contents(deployment.home)
    words = ("calibrate", deployment.home / "calibration", "--model", deployment.model, "--html", page)
    command(*words, "--database", deployment.database).refuses(2, "--html", "there is no folder")
    assert contents(deployment.home) == before


def test_a_pipe_is_no_image_and_is_not_waited_for(deployment: Deployment, command: Command) -> None:
    pipe = deployment.home / "pipe"
    os.mkfifo(pipe)
    command("produce", pipe, "--source", deployment.source).refuses(2, "is no regular file")


def test_an_export_writes_through_a_link_and_leaves_it_a_link(deployment: Deployment, command: Command) -> None:
    link, target = deployment.home / "latest.csv", deployment.home / "scores.csv"
    link.symlink_to(target)
    assert command("export", "scores", "--out", link, "--database", deployment.database).code == 0
    assert link.is_symlink()
    assert target.read_text().startswith("deployment,topic,topic_id,partition,offset,event_time,id")
