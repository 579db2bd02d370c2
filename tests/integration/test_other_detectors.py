"""Detectors of pytorch-ood in the table of `evaluate`, where that library and its torchvision are installed."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.neighbors import NearestNeighbors

from pipeline.errors import UsageError
from pipeline.records import Outputs
from pipeline.scoring.pytorch_ood import READS, check_detectors, fit_detectors
from tests.integration.test_commands import lines, run
from tests.integration.test_evaluate import linear_outputs, pictures, save
from tests.integration.typing_commands import Command
from tests.tiny import Deployment

try:
    check_detectors(["KNN"])
except UsageError as why:  # the CPU build of torch beside the default build of torchvision
    pytest.skip(str(why), allow_module_level=True)


def outputs_of(arrays: dict[str, np.ndarray]) -> Outputs:
    return Outputs(arrays["logits"], arrays["features"])


def test_distances_and_entropies_are_those_of_the_formulas() -> None:
    ids, others = linear_outputs(300, 1), outputs_of(linear_outputs(50, 2, spread=2.0))
    scores = fit_detectors(["KNN", "Entropy"], outputs_of(ids), ids["labels"], None)
    nearest = NearestNeighbors(n_neighbors=1).fit(ids["features"]).kneighbors(others.features)[0][:, 0]
    p = softmax(others.logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(scores["KNN"](others), nearest, rtol=1e-5)
    np.testing.assert_allclose(scores["Entropy"](others), -(p * np.log(p)).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("name", READS)
def test_every_detector_tells_what_is_far_from_what_is_near(name: str) -> None:
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(3, 8))
    centres = 6 * weight / np.linalg.norm(weight, axis=1, keepdims=True)
    labels = np.arange(300) % 3

    def outputs(z: np.ndarray) -> Outputs:
        return Outputs((z @ weight.T).astype(np.float32), z.astype(np.float32))

    near = outputs(centres[labels] + rng.normal(size=(300, 8)) * 0.5)
    far = outputs(rng.normal(size=(300, 8)) * 0.3 - centres.sum(axis=0) / 3)
    (score,) = fit_detectors([name], near, labels, (weight, np.zeros(3))).values()
    assert np.median(score(far)) > np.quantile(score(near), 0.9)


@pytest.mark.parametrize("name", ["KNN", "ViM", "Entropy", "TemperatureScaling"])
def test_a_detector_stands_in_the_table_beside_our_own_scores(name: str, deployment: Deployment) -> None:
    ids = pictures(deployment.home / "ids", range(100, 180))
    odd = pictures(deployment.home / "odd", range(300, 320))
    made = lines(
        run("evaluate", "--model", deployment.model, "--id", ids, "--ood", f"odd={odd}", "--detector", name, "--json")
    )
    assert [line["score"] for line in made][-1] == name
    assert {"energy", "softmax", "max_logit"} < {str(line["score"]) for line in made}
    (own,) = [line for line in made if line["score"] == name]
    assert own["n_id"] == 56  # the others of 80 have fitted it
    assert 0 <= float(str(own["auroc"])) <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--detector", "ODIN"], ("--detector ODIN", "known are", "KNN")),
        (["--detector", "ViM"], ("--detector ViM", "last layer", "--model")),
        (["--detector", "KNN"], ("--detector KNN", "needs features", "`features`")),
    ],
)
def test_a_detector_that_cannot_be_is_refused_in_one_line(
    options: list[str], words: tuple[str, ...], tmp_path: Path, command: Command
) -> None:
    ids = save(tmp_path / "id.npz", logits=linear_outputs(100, 1)["logits"])
    odd = save(tmp_path / "odd.npz", logits=linear_outputs(50, 2)["logits"])
    command("evaluate", "--id", ids, "--ood", f"odd={odd}", *options).refuses(2, *words)


def test_a_class_without_an_image_to_fit_on_is_named(tmp_path: Path, command: Command) -> None:
    arrays = linear_outputs(100, 1)
    arrays["labels"] = np.where(arrays["labels"] == 1, 2, arrays["labels"])
    ids, odd = save(tmp_path / "id.npz", **arrays), save(tmp_path / "odd.npz", **linear_outputs(50, 2))
    answer = command("evaluate", "--id", ids, "--ood", f"odd={odd}", "--detector", "Mahalanobis")
    answer.refuses(3, "--detector Mahalanobis cannot be fitted on 30 images", "of the rarest class there are 0")
