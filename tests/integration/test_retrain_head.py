"""oodwatch retrain-head, as a person types it, on the tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from pipeline.ingest.source import NewRecord
from pipeline.models.package import load_package
from tests.coloured import CLASSES, bright, class_folders, coloured
from tests.integration.typing_commands import Answer, Command
from tests.tiny import Deployment

OUT = "repaired"


def arrays(each: int = 60, *, seed: int = 0) -> dict[str, Any]:
    """Features of three classes before two backgrounds; which background has any class is nearly fixed."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(3), each)
    g = np.where(rng.random(3 * each) < 0.6, y % 2, 1 - y % 2)
    x = rng.normal(size=(3 * each, 12)) + 3.0 * np.eye(3, 12)[y]
    x[:, 11] += 6.0 * g
    return {"x": x.astype(np.float32), "y": y, "g": g}


def outlying(n: int, *, seed: int = 1) -> dict[str, Any]:
    x = np.random.default_rng(seed).normal(size=(n, 12))
    x[:, 5] += 5.0
    return {"x": x.astype(np.float32)}


def save(path: Path, values: dict[str, Any]) -> Path:
    np.savez(path, allow_pickle=False, **values)
    return path


def typed(deployment: Deployment, *more: object, resamples: int = 3) -> list[object]:
    return [
        *("retrain-head", "--model", deployment.model, "--database", deployment.database),
        *("--out", deployment.home / OUT, "--strength", 1, "--resamples", resamples, *more),
    ]


def line(answer: Answer) -> dict[str, Any]:
    assert answer.code == 0, answer.err
    values: dict[str, Any] = json.loads(answer.out)
    return values


def test_features_of_a_file_make_a_head_whose_worst_group_is_better(deployment: Deployment, command: Command) -> None:
    rows = save(deployment.home / "f.npz", arrays() | {"model": load_package(deployment.model).model_id})
    far = save(deployment.home / "o.npz", outlying(60))
    made = line(command(*typed(deployment, "--features", rows, "--outliers", far, "--energy-weight", 0.1, "--json")))
    before, after = made["before"], made["after"]
    assert set(after["groups"]) == {f"{name} / {group}" for name in CLASSES for group in (0, 1)}
    assert after["worst"] > before["worst"]
    assert after["mean"] > 0.9
    assert after["outliers"]["n"] == 18
    assert after["outliers"]["auroc"] > max(0.95, before["outliers"]["auroc"])
    assert made["bounds"]["m_in"] < made["bounds"]["m_out"]
    judged = sum(group["n"] for group in after["groups"].values())
    assert judged + sum(made["fitted"].values()) == 180
    out = deployment.home / OUT
    package = load_package(out)
    assert (package.model_id, package.spec.version) == (made["model"], "1+head")
    kept = json.loads((out / "repair.json").read_text())
    assert (kept["kind"], kept["parent"]) == ("retrain-head", load_package(deployment.model).model_id)
    weights = load_file(out / "weights.safetensors")
    assert weights["head.weight"].shape == (3, 12)
    logits = arrays()["x"] @ weights["head.weight"].numpy().T + weights["head.bias"].numpy()
    assert float((logits.argmax(axis=1) == arrays()["y"]).mean()) > 0.9


def test_the_report_is_a_table_and_tells_what_the_old_threshold_would_flag(
    deployment: Deployment, command: Command
) -> None:
    rows, far = save(deployment.home / "f.npz", arrays()), save(deployment.home / "o.npz", outlying(60))
    made = command(*typed(deployment, "--features", rows, "--outliers", far))
    assert made.code == 0, made.err
    assert made.out.splitlines()[0] == "Before and after, on rows that were not fitted on"
    for words in ("worst group", "mean", "AUROC", "FPR95", "with a threshold of its own", "with the old threshold"):
        assert words in made.out
    assert "no old reference fits the new head" in made.err


def test_images_with_groups_make_a_head_and_calibration_images_its_reference(
    deployment: Deployment, command: Command
) -> None:
    home = deployment.home
    class_folders(home / "photos", 80)
    lines = ["file,group"]
    for name in CLASSES:
        lines += [f"{name}/{seed}.png,cam{seed % 2}" for seed in range(78)]
    (home / "g.csv").write_text("\n".join(lines))
    class_folders(home / "normal", 80, first=1000)
    rows = ("--images", home / "photos", "--groups", home / "g.csv", "--outliers", bright(home / "far", 50))
    made = command(*typed(deployment, *rows, "--calibration", home / "normal", "--energy-weight", 0.1, "--json"))
    values = line(made)
    assert "left out: 6 not in the CSV" in made.err
    assert values["after"]["mean"] > 0.95
    assert values["after"]["outliers"]["auroc"] > 0.95
    assert values["reference"] == "tiny-r2"
    deployment.produce([coloured(seed, seed % 3) for seed in range(5000, 5200)])
    worker = ("worker", "--source", deployment.source, "--database", deployment.database, "--model", home / OUT)
    assert line(command(*worker, "--drain", "--json"))["scored"] == 200
    old = command(*worker, "--drain", "--reference", "tiny-r1", "--log-format", "text")
    old.refuses(2, "reference tiny-r1 belongs to model", "energies of two models cannot be compared")


@pytest.fixture
def watched(deployment: Deployment, command: Command) -> Deployment:
    """A worker has kept samples of two segments, with labels; a few bright ones among them."""
    spool = deployment.spool(1)
    colours = [seed % 3 for seed in range(240)]
    values = [coloured(seed, colour, light=120 if seed >= 180 else 0) for seed, colour in enumerate(colours)]
    spool.append(
        [
            NewRecord(
                value,
                headers=(
                    ("label", CLASSES[colour].encode()),
                    ("segment", b"north" if seed // 3 % 2 else b"south"),
                    ("id", f"m{seed}".encode()),
                ),
            )
            for seed, (value, colour) in enumerate(zip(values, colours, strict=True))
        ]
    )
    spool.close()
    (deployment.home / "oodwatch.toml").write_text("[samples]\nper_segment_and_minute = 1000\n")
    return deployment


def test_stored_samples_make_a_head_by_their_own_labels_and_segments(
    watched: Deployment, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(watched.home)
    worker = ("worker", "--source", watched.source, "--database", watched.database, "--model", watched.model)
    assert line(command(*worker, "--drain", "--json"))["scored"] == 240
    values = line(command(*typed(watched, "--stored", "--from", "2020-01-01T00:00:00Z", "--json")))
    assert set(values["fitted"]) == {f"{name} / {side}" for name in CLASSES for side in ("north", "south")}
    assert sum(values["fitted"].values()) == 6 * 28
    assert values["after"]["mean"] > values["before"]["mean"]
    # The same with a person's groups: the bright ones are none of the classes.
    lines = [
        "id,group,label",
        *(f"m{seed},{'ab'[seed // 3 % 2]},{'ood' if seed >= 180 else ''}" for seed in range(240)),
    ]
    (watched.home / "g.csv").write_text("\n".join(lines))
    said = ("--stored", "--groups", watched.home / "g.csv", "--energy-weight", 0.1, "--force", "--json")
    values = line(command(*typed(watched, *said)))
    assert set(values["fitted"]) == {f"{name} / {side}" for name in CLASSES for side in "ab"}
    assert sum(values["fitted"].values()) == 6 * 21
    assert values["after"]["outliers"]["n"] == 18
    (watched.home / "g.csv").write_text("id,group\nm1,a\nnobody,a\n")
    command(*typed(watched, *said)).refuses(3, "1 of 2 ids are not among the samples (first: nobody)")
    none = command(*typed(watched, "--stored", "--to", "2020-01-01T00:00:00Z", "--force"))
    none.refuses(2, "no sample with features of deployment tiny lies between --from and --to")
    other = command(*typed(watched, "--stored")[:2], watched.home / OUT, *typed(watched, "--stored", "--force")[3:])
    other.refuses(3, "240 of 240 samples of deployment tiny come from model tiny@")


def _with(**changed: Any) -> dict[str, Any]:
    return arrays() | changed


def _spoilt(name: str, row: object, value: float) -> dict[str, Any]:
    values = arrays()
    values[name][row] = value
    return values


SMALL = {name: value[: 120 + 10] for name, value in arrays().items()}
ABSENT = {name: value[:120] for name, value in arrays().items()}


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (SMALL, (), "2 of 6 groups have fewer than 20 rows: blue / 0"),
        (ABSENT, (), "1 of 3 classes have no rows: blue"),
        (_spoilt("y", [3, 9], 7), (), "2 of 180 labels are no class of the model (first: 7 in row 3)"),
        (_spoilt("x", (5, 2), np.nan), (), "1 of 180 rows of features hold NaN or infinity (first: row 5)"),
        (_with(model="tiny@000000000000"), (), "made by model tiny@000000000000, not by tiny@"),
        (_with(x=np.zeros((180, 13))), (), "13 features a row, the head of tiny@"),
        (arrays(), ("--energy-weight", 0.1), "0 outliers are too few"),
        (arrays(), ("--outliers", "few.npz"), "39 outliers are too few"),
        (arrays(), ("--outliers", "f.npz"), "180 of 180 outliers are also among the labelled rows"),
        (arrays(), ("--m-in", -5, "--m-out", -23, "--energy-weight", 0.1), "are in the wrong order"),
    ],
)
def test_rows_that_do_not_carry_a_head_are_refused_in_one_line(
    deployment: Deployment, command: Command, values: dict[str, Any], options: tuple[object, ...], said: str
) -> None:
    rows = save(deployment.home / "f.npz", values)
    save(deployment.home / "few.npz", outlying(39))
    named = [deployment.home / option if str(option).endswith(".npz") else option for option in options]  # type: ignore[operator]
    command(*typed(deployment, "--features", rows, *named)).refuses(3, said)
    assert not (deployment.home / OUT).exists()


def test_a_head_that_is_worse_is_refused_unless_forced(deployment: Deployment, command: Command) -> None:
    home = deployment.home
    rows = save(home / "f.npz", arrays())
    assert command(*typed(deployment, "--features", rows)).code == 0
    (home / OUT).rename(home / "good")
    shuffled = arrays(seed=5)
    shuffled["y"][:] = np.roll(shuffled["y"], 1)  # most labels stay right; the fit is poor by its strength alone
    weak = ["--features", save(home / "w.npz", shuffled), "--strength", 1e-9]
    base = typed(deployment, *weak)
    base[2] = home / "good"
    command(*base).refuses(3, "not a repair: ", "falls from", "--force")
    assert not (home / OUT).exists()
    assert command(*base, "--force").code == 0
    assert load_package(home / OUT).spec.version == "1+head+head"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "name one source of rows"),
        (("--stored", "--images", "x"), "name one source of rows"),
        (("--images", "."), "--images needs --groups"),
        (("--features", "f.npz", "--from", "2026-01-01T00:00:00Z"), "--from and --to belong to --stored"),
        (("--features", "missing.npz"), "no .npz file of plain arrays"),
        (("--features", "f.npz", "--energy-weight", -1), "--energy-weight -1.0: must be 0 or more"),
        (("--stored", "--from", "yesterday"), "--from 'yesterday': write an ISO time"),
        (("--features", "f.npz", "--groups", "g.csv"), "--groups belongs to --images and --stored"),
    ],
)
def test_a_command_that_cannot_be_meant_says_what_to_write(
    deployment: Deployment, command: Command, options: tuple[object, ...], said: str
) -> None:
    command(*typed(deployment, *options)).refuses(2, said)


def test_groups_that_name_no_file_or_no_class_are_counted_and_refused(deployment: Deployment, command: Command) -> None:
    home = deployment.home
    class_folders(home / "photos", 3)
    rows = ("--images", home / "photos", "--groups", home / "g.csv")
    for text, code, said in (
        ("file,group\nred/0.png,a\nred/9.png,a\n", 3, "1 of 2 files are not under"),
        ("file,group,label\nred/0.png,a,pink\n", 3, "1 of 1 labels are no class of the model (first: 'pink')"),
        ("file,label\nred/0.png,red\n", 2, "no column 'group'; it has file, label"),
        ("file,group\nred/0.png,a\nred/0.png,b\n", 2, "line 3: file 'red/0.png' is given twice"),
    ):
        (home / "g.csv").write_text(text)
        command(*typed(deployment, *rows)).refuses(code, said)
