"""Evaluation and the blind-spot card, as a person types them."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from pipeline.models.classifier import Classifier
from pipeline.models.package import load_package
from pipeline.records import Outputs
from pipeline.scoring.energy import score_logits
from tests.integration.test_commands import RESNET20, failure, lines, run
from tests.shared_data import cifar
from tests.tiny import Deployment, make_deployment, png


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return make_deployment(tmp_path_factory.mktemp("tiny"))


def pictures(folder: Path, seeds: range) -> Path:
    folder.mkdir()
    for seed in seeds:
        (folder / f"{seed}.png").write_bytes(png(seed))
    return folder


def linear_outputs(n: int, seed: int, *, spread: float = 0.1) -> dict[str, np.ndarray]:
    """Features of a plane and a little beside it, with the logits of a fixed head and noisy labels."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    weight, plane = fixed.normal(size=(8, 3)), np.linalg.qr(fixed.normal(size=(8, 2)))[0]
    z = (rng.normal(size=(n, 2)) * 4) @ plane.T + spread * rng.normal(size=(n, 8))
    logits = z @ weight + 1
    return {
        "features": z.astype(np.float32),
        "logits": logits.astype(np.float32),
        "labels": np.where(rng.random(n) < 0.8, logits.argmax(1), 0),
    }


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, allow_pickle=False, **arrays)
    return path


def test_the_evaluation_images_give_the_published_figures_at_every_temperature(tmp_path: Path) -> None:
    home = cifar()
    expected = json.loads((home / "expected.json").read_text())
    (tmp_path / "classes.txt").write_text("\n".join(expected["classes"]))
    weights = home / "weights" / "resnet20-12fca82f.th"
    model = tmp_path / "resnet20"
    made = run(
        *("package", model, "--architecture", f"{RESNET20}:resnet20", "--weights", weights, "--head", "linear"),
        *("--classes", tmp_path / "classes.txt", "--input-size", 32),
        *("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"),
    )
    assert made.exit_code == 0, made.output
    oods = []
    for name, figures in expected["sets"].items():
        oods += [
            "--ood",
            f"{name}={_drift_csv(home, name, tmp_path) if 'accuracy' in figures else home / 'ood' / name}",
        ]
    temperatures = [argument for t in (1, 2, 5, 10, 100, 1000) for argument in ("--temperature", t)]
    page = tmp_path / "report.html"
    options = ("--model", model, "--id", home / "id", *oods, *temperatures, "--html", page, "--json")
    found = {(line["ood"], line["score"], line["temperature"]): line for line in lines(run("evaluate", *options))}
    assert len(found) == len(expected["sets"]) * (6 + 2 + 6)
    for name, figures in expected["sets"].items():
        for score, short in (("energy", "energy"), ("softmax", "msp")):
            line, published = found[name, score, 1.0], figures[short]
            assert line["accuracy"] == pytest.approx(expected["id"]["accuracy"], abs=1e-9)
            tau = expected["threshold"]["energy" if short == "energy" else "neg_msp"]
            assert line["threshold_fpr95"] == pytest.approx(tau, abs=1e-4)
            assert line["fpr95"] == pytest.approx(published["fpr95"], abs=1e-9)
            assert line["fpr95_official"] == pytest.approx(published["fpr95_official_code"], abs=1e-9)
            for figure in ("auroc", "aupr_in", "aupr_out"):
                assert line[figure] == pytest.approx(published[figure], abs=1e-3 if short == "msp" else 2e-6)
        energy = found[name, "energy", 1.0]
        assert energy["mean_ood"] == pytest.approx(figures["energy_mean"], abs=1e-4)
        assert energy["mean_id"] == pytest.approx(expected["id"]["energy_mean"], abs=1e-4)
        assert energy["fpr95_ood_positive"] == pytest.approx(figures["energy"]["trap_fpr95_if_ood_positive"], abs=1e-9)
        assert energy["accuracy_ood"] == pytest.approx(figures.get("accuracy"))
        for temperature, share in figures["energy_fpr95_by_T"].items():
            at = found[name, "energy", float(temperature)]
            assert at["fpr95_official"] == pytest.approx(share, abs=1e-9)
    assert float(str(found["svhn", "energy+residual", 1.0]["fpr95"])) < 0.3
    _check_page(page)
    assert page.read_text().count("data:image/webp") == 12 * (1 + len(expected["sets"]))


def _drift_csv(home: Path, name: str, out: Path) -> Path:
    classes = json.loads((home / "expected.json").read_text())["classes"]
    rows = [f"{file},{file.name.split('__')[0]}" for file in sorted((home / "drift" / name).iterdir())]
    assert all(row.rsplit(",", 1)[1] in classes for row in rows)
    path = out / f"{name}.csv"
    path.write_text("\n".join(["file,label", *rows]))
    return path


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br", "line", "polyline", "polygon"}:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"line", "polyline", "polygon"}:
            assert self.open.pop() == tag


def _check_page(path: Path) -> None:
    """Well-formed, and whole without any request."""
    page = path.read_text()
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert all(source.startswith("data:image/webp;base64,") for source in tags.sources)
    assert not re.search(r"https?://|<script|@import|url\(", page)


def test_outputs_in_files_need_no_model_and_give_the_same_figures(deployment: Deployment, tmp_path: Path) -> None:
    normal, odd = pictures(tmp_path / "normal", range(500, 560)), pictures(tmp_path / "odd", range(700, 720))
    images = ("--id", normal, "--ood", f"odd={odd}", "--model", deployment.model)
    by_images = lines(run("evaluate", *images, "--json"))
    assert [line["score"] for line in by_images] == ["energy", "softmax", "max_logit", "energy+residual"]
    classifier = Classifier(load_package(deployment.model))
    for folder in (normal, odd):
        outputs = _outputs(classifier, folder)
        save(tmp_path / f"{folder.name}.npz", logits=outputs.logits, features=outputs.features)
    files = ("--id", tmp_path / "normal.npz", "--ood", f"odd={tmp_path / 'odd.npz'}")
    for one, other in zip(by_images, lines(run("evaluate", *files, "--json")), strict=True):
        assert other["fpr95"] == pytest.approx(one["fpr95"])
        assert other["threshold_conformal"] == pytest.approx(one["threshold_conformal"], abs=1e-4)
    (line,) = [line for line in by_images if line["score"] == "energy"]
    energies = np.sort(score_logits(_outputs(classifier, normal)).energy)
    assert line["threshold_fpr95"] == pytest.approx(energies[56], abs=1e-5)
    assert line["threshold_conformal"] == pytest.approx(energies[57], abs=1e-5)


def _outputs(classifier: Classifier, folder: Path) -> Outputs:
    from PIL import Image

    files = sorted(folder.iterdir(), key=lambda path: path.as_posix())
    return classifier.predict(np.stack([np.asarray(Image.open(path)) for path in files]))


def test_what_leaves_the_space_of_normal_features_is_seen_by_the_residual_alone(tmp_path: Path) -> None:
    ids = save(tmp_path / "id.npz", **linear_outputs(600, 1))
    odd = save(tmp_path / "odd.npz", **linear_outputs(200, 2, spread=1.5))
    found = {str(line["score"]): line for line in lines(run("evaluate", "--id", ids, "--ood", f"odd={odd}", "--json"))}
    assert float(str(found["energy"]["fpr95"])) > 0.7
    assert float(str(found["energy+residual"]["fpr95"])) < 0.1
    assert found["energy"]["accuracy"] == pytest.approx(0.87, abs=0.03)
    assert found["energy+residual"]["n_id"] == 420
    page = tmp_path / "page.html"
    assert run("evaluate", "--id", ids, "--ood", f"<b>&={odd}", "--html", page).exit_code == 0
    _check_page(page)
    assert "<b>&</b>" not in page.read_text()


def test_samples_that_a_worker_kept_are_a_set(deployment: Deployment, tmp_path: Path) -> None:
    deployment.produce([png(i) for i in range(300, 340)])
    deployment.drain()
    normal = pictures(tmp_path / "normal", range(500, 540))
    options = ("--model", deployment.model, "--database", deployment.database, "--json")
    made = lines(run("evaluate", "--id", normal, "--ood", "kept=samples:tiny", *options))
    assert {line["n_ood"] for line in made} == {4}
    with_segment = lines(run("evaluate", "--id", normal, "--ood", "kept=samples:tiny/default", *options))
    assert with_segment == made
    missing = run("evaluate", "--id", normal, "--ood", "kept=samples:other", *options)
    assert "no random sample" in str(failure(missing))


def test_bad_sets_end_with_one_line_each(deployment: Deployment, tmp_path: Path) -> None:
    good = linear_outputs(60, 1)
    ids, odd = save(tmp_path / "id.npz", **good), save(tmp_path / "odd.npz", **linear_outputs(30, 2))

    def said(id_set: object, ood: object, *options: object) -> str:
        return str(failure(run("evaluate", "--id", id_set, "--ood", f"x={ood}", *options)))

    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.npz").write_bytes(odd.read_bytes()[:300])
    nan = linear_outputs(30, 3)
    nan["logits"][17, 1] = np.nan
    wide = {"logits": np.zeros((30, 5), np.float32), "features": np.zeros((30, 8), np.float32)}
    model = ("--model", deployment.model)
    assert "no image in it" in said(ids, tmp_path / "empty", *model)
    assert "no such file" in said(ids, tmp_path / "nowhere", *model)
    assert "No such file" in said(ids, tmp_path / "nowhere.npz")
    assert "numpy.savez" in said(ids, tmp_path / "torn.npz")
    assert "row 17" in said(ids, save(tmp_path / "nan.npz", **nan))
    assert "5 logits an image, id has 3" in said(ids, save(tmp_path / "wide.npz", **wide))
    assert "no array `logits`" in said(ids, save(tmp_path / "f.npz", features=good["features"]))
    assert "30 of its 60 images are also in the ID set" in said(odd, save(tmp_path / "both.npz", **_joined(odd, ids)))
    bare = save(tmp_path / "bare.npz", logits=linear_outputs(30, 2)["logits"])
    assert "no features an image" in said(ids, bare)
    assert "has none" in said(bare, save(tmp_path / "b2.npz", logits=nan["logits"][:9]), "--residual-dimensions", 2)
    few = run("evaluate", "--id", save(tmp_path / "few.npz", **linear_outputs(18, 4)), "--ood", f"x={odd}")
    assert "at least 19" in str(failure(few))
    assert failure(few).exit_code == 3
    assert "add --model" in said(ids, pictures(tmp_path / "pictures", range(3)))
    assert "NAME=SET" in str(failure(run("evaluate", "--id", ids, "--ood", odd)))
    assert "must be above 0" in said(ids, odd, "--temperature", 0)


def _joined(first: Path, second: Path) -> dict[str, np.ndarray]:
    with np.load(first) as a, np.load(second) as b:
        return {name: np.concatenate([a[name], b[name][:30]]) for name in a}


def test_a_set_without_features_is_evaluated_without_the_residual(tmp_path: Path) -> None:
    ids = save(tmp_path / "id.npz", logits=linear_outputs(60, 1)["logits"])
    odd = save(tmp_path / "odd.npz", logits=linear_outputs(30, 2)["logits"])
    made = run("evaluate", "--id", ids, "--ood", f"odd={odd}", "--json")
    assert [line["score"] for line in lines(made)] == ["energy", "softmax", "max_logit"]
    assert "without energy+residual" in made.stderr


def test_a_reference_of_energy_and_residual_scores_what_it_promised(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path, images=400)
    options = ("--model", deployment.model, "--database", deployment.database)
    page = tmp_path / "card.html"
    wanted = ("--score", "energy+residual", "--residual-dimensions", "auto", "--html", page)
    (made,) = lines(run("calibrate", tmp_path / "calibration", *options, *wanted, "--json"))
    assert (made["reference"], made["n"], made["rank"]) == ("tiny-r2", 200, 191)
    assert made["residual_dimensions"] in {1, 3, 6}
    card = made["card"]
    assert isinstance(card, dict)
    assert card["n"] == 60
    assert card["lines"][0]["kind"] == "none"
    assert len(card["lines"]) == 12
    assert card["lines"][0]["agreement"] == 1
    (stored,) = lines(run("card", "tiny-r2", "--database", deployment.database, "--json"))
    assert stored["card"] == card
    _check_page(page)
    deployment.produce([png(i) for i in range(40)])
    deployment.drain()
    engine = create_engine(deployment.database)
    with engine.connect() as conn:
        rows = conn.execute(text("SELECT energy, score, is_ood FROM score")).all()
    engine.dispose()
    assert len(rows) == 40
    assert all(row.score > row.energy for row in rows)
    assert all(row.is_ood == (row.score > float(str(made["threshold"]))) for row in rows)


def test_a_residual_that_cannot_be_made_is_refused_before_anything_is_stored(deployment: Deployment) -> None:
    options = ("--model", deployment.model, "--database", deployment.database, "--score", "energy+residual")
    calibration = deployment.home / "calibration"
    assert "below 12" in str(failure(run("calibrate", calibration, *options, "--residual-dimensions", 12)))
    assert "auto" in str(failure(run("calibrate", calibration, *options, "--residual-dimensions", "many")))
    known = lines(run("references", "--database", deployment.database, "--json"))
    assert [line["score"] for line in known] == ["energy"]


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "card"])
def test_help_ends_with_an_example(command: str) -> None:
    made = run(command, "--help")
    assert made.exit_code == 0, made.exception
    assert f"Example: oodwatch {command}" in made.output


def test_one_calibration_after_another_shares_the_images_out_alike() -> None:
    from pipeline.calibrate import split_images

    first, second = (split_images(1000, np.random.default_rng(0)) for _ in range(2))
    assert [len(part) for part in (first.fit, first.card, first.rest)] == [350, 150, 500]
    np.testing.assert_array_equal(first.rest, second.rest)
    assert len(np.unique(np.concatenate([first.fit, first.card, first.rest]))) == 1000
    large = split_images(100_000, np.random.default_rng(0))
    assert (len(large.fit), len(large.card)) == (8192, 1000)
