"""oodwatch finetune, as a person types it, on the tiny model."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.export import Dim

from pipeline.models.package import load_package
from tests.coloured import bright, class_folders, coloured
from tests.integration.test_program import Net
from tests.integration.typing_commands import Answer, Command
from tests.tiny import SIDE, Deployment


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("images")
    class_folders(home / "train", 100)
    bright(home / "bright", 100)
    class_folders(home / "calibration", 80, first=1000)
    bright(home / "other", 60, first=1000)
    return home


def json_lines(answer: Answer) -> list[dict[str, Any]]:
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


def arguments(deployment: Deployment, images: Path, *more: object, out: str = "repaired") -> list[object]:
    return [
        *("finetune", "--model", deployment.model, "--database", deployment.database, "--out", deployment.home / out),
        *("--id", images / "train", "--outliers", images / "bright", "--steps", 40, "--batch", 24, "--lr", 0.3),
        *("--augment", "none", *more),
    ]


def test_a_fine_tuned_model_sees_outliers_and_has_a_reference_of_its_own(
    deployment: Deployment, command: Command, images: Path
) -> None:
    sets = ("--calibration", images / "calibration", "--ood", f"other={images / 'other'}")
    made = json_lines(command(*arguments(deployment, images, *sets, "--json")))
    steps, last = made[:-1], made[-1]
    assert [step["step"] for step in steps][:3] == [1, 2, 4]
    assert steps[-1]["step"] == 40
    before, after = last["before"], last["after"]
    assert set(after["sets"]) == {"outliers", "other"}
    assert after["sets"]["other"]["auroc"] > max(0.95, before["sets"]["other"]["auroc"])
    assert after["accuracy"] >= before["accuracy"]
    assert last["reference"] == "tiny-r2"
    out = deployment.home / "repaired"
    package = load_package(out)
    assert (package.model_id, package.spec.version) == (last["model"], "1+finetuned")
    kept = json.loads((out / "repair.json").read_text())
    assert kept["parent"] == load_package(deployment.model).model_id
    assert kept["after"]["sets"] == after["sets"]
    assert kept["plan"]["bounds"]["m_in"] < kept["plan"]["bounds"]["m_out"]
    assert not (deployment.home / "repaired.checkpoint").exists()
    # The new model's worker takes the new reference, and is refused the old threshold.
    deployment.produce([coloured(seed, seed % 3) for seed in range(5000, 5300)])
    worker = ("worker", "--source", deployment.source, "--database", deployment.database, "--model", out, "--drain")
    (scored,) = json_lines(command(*worker, "--json"))
    assert scored["scored"] == 300
    assert scored["flagged"] == pytest.approx(0.05 * 300, abs=15)
    old = command(*worker, "--reference", "tiny-r1", "--log-format", "text")
    old.refuses(2, "reference tiny-r1 belongs to model")


def test_the_report_is_a_table_for_people(deployment: Deployment, command: Command, images: Path) -> None:
    made = command(*arguments(deployment, images))
    assert made.code == 0, made.err
    table = made.out.splitlines()
    assert table[0] == "Before and after, on 90 normal images that were not trained on"
    assert [line.split()[0] for line in table[2:4]] == ["outliers", "accuracy"]
    assert "margins: m_in" in made.err
    assert "step 40/40" in made.err


def test_a_run_that_was_interrupted_and_resumed_makes_the_same_weights(
    deployment: Deployment, command: Command, images: Path
) -> None:
    whole = command(*arguments(deployment, images, "--json", "--steps", 150, out="whole"))
    assert whole.code == 0, whole.err
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, arguments(deployment, images, "--json", "--steps", 150))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["step"] == 1
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        code = process.wait()
    if code == 130:  # else it was quicker than the signal
        assert (deployment.home / "repaired.checkpoint").exists()
        assert not (deployment.home / "repaired").exists()
        command(*arguments(deployment, images, "--steps", 150)).refuses(
            2, "left of a training that did not end", "--resume"
        )
        command(*arguments(deployment, images, "--resume")).refuses(2, "belongs to a training with steps 150, not 40")
        resumed = command(*arguments(deployment, images, "--resume", "--steps", 150, "--json"))
        assert resumed.code == 0, resumed.err
    one, other_one = (load_file(deployment.home / name / "weights.safetensors") for name in ("whole", "repaired"))
    assert all(torch.equal(one[name], other_one[name]) for name in one)
    assert load_package(deployment.home / "whole").digest == load_package(deployment.home / "repaired").digest


def test_what_is_worse_is_refused_and_can_be_taken_as_it_is(
    deployment: Deployment, command: Command, images: Path
) -> None:
    wrong = deployment.home / "wrong"
    class_folders(wrong, 60, names=("green", "blue", "red"))
    options = ("--id", wrong, "--calibration", images / "calibration", "--weight", 0)
    good = command(*arguments(deployment, images, "--calibration", images / "calibration", out="good"))
    assert good.code == 0, good.err
    base = arguments(deployment, images, *options, out="bad")
    base[2] = deployment.home / "good"
    refused = command(*base)
    assert refused.code == 3
    assert "oodwatch: not a repair: accuracy falls from" in refused.err
    assert not (deployment.home / "bad").exists()
    forced = command(*base, "--resume", "--force")
    assert forced.code == 0, forced.err
    assert (deployment.home / "bad" / "repair.json").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--m-in", -5, "--m-out", -23), "m_in -5 and m_out -23 are in the wrong order"),
        (("--m-in", 1000.0), "are in the wrong order"),
        (("--outliers", "few"), "39 images are too few"),
        (("--outliers", "all"), "240 of 240 outliers are also --id images"),
        (("--id", "two"), "1 of 3 classes have no images: blue"),
        (("--id", "bright"), "100 of 100 images have no label that is a class of the model"),
        (("--calibration", "part"), "30 of 30 --calibration images are also --id images, which are trained on"),
        (("--calibration", "tiny-set"), "6 images are too few for a threshold"),
    ],
)
def test_bad_images_and_margins_are_refused_at_once(
    deployment: Deployment, command: Command, images: Path, options: tuple[object, ...], said: str
) -> None:
    home = deployment.home
    bright(home / "few", 39)
    class_folders(home / "two", 10, names=("red", "green"))
    class_folders(home / "part", 10)
    class_folders(home / "tiny-set", 2, first=500)
    bright(home / "bright", 100)
    class_folders(home / "all", 80)
    places = {"few", "two", "part", "tiny-set", "bright", "all"}
    changed = [home / str(option) if option in places else option for option in options]
    if "all" in options:
        changed += ["--id", home / "all"]
    command(*arguments(deployment, images, *changed)).refuses(3, said)
    assert not (home / "repaired").exists()


def test_a_program_has_no_layers_to_train(deployment: Deployment, command: Command, images: Path) -> None:
    home = deployment.home
    network = Net().eval()
    torch.nn.init.eye_(network.head.weight)
    torch.nn.init.constant_(network.head.bias, -5.0)
    exported = torch.export.export(network, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: Dim("batch")},))
    torch.export.save(exported, home / "net.pt2")
    (home / "classes.txt").write_text("red\ngreen\nblue\n")
    shape = ("--classes", home / "classes.txt", "--input-size", SIDE, "--mean", "0,0,0", "--std", "1,1,1")
    made = command("package", home / "program", "--program", home / "net.pt2", *shape)
    assert made.code == 0, made.err
    base = arguments(deployment, images)
    base[2] = home / "program"
    command(*base).refuses(3, "has no linear head that can be named")


def test_an_existing_package_is_not_replaced_unasked(deployment: Deployment, command: Command, images: Path) -> None:
    command(*arguments(deployment, images, out="tiny")).refuses(2, "exists; add --force to replace it")


def test_files_that_are_no_images_are_named_and_left_out(
    deployment: Deployment, command: Command, images: Path
) -> None:
    mixed = class_folders(deployment.home / "mixed", 60)
    (mixed / "red" / "x.png").write_bytes(b"no image")
    (mixed / "red" / "again.png").write_bytes((mixed / "red" / "0.png").read_bytes())
    made = command(*arguments(deployment, images, "--id", mixed))
    assert made.code == 0, made.err
    assert "180 images; 1 repeats are used once; 1 files cannot be used" in made.err
    assert "skipped" in made.err
    assert np.isfinite(json.loads((deployment.home / "repaired" / "repair.json").read_text())["after"]["threshold"])
