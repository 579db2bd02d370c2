"""A torch.export program on the whole path: package, calibrate, score, worker."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from pipeline.ingest.decode import DecodeLimits, decode
from pipeline.storage.engine import make_engine
from pipeline.storage.references import find_reference
from tests.integration.typing_commands import Command
from tests.tiny import SIDE, Deployment, png


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(SIDE * SIDE * 3, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(self.body(images.flatten(1)))
        return self.head(features), features


@pytest.fixture
def network() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Net()
    torch.nn.init.ones_(network.body.bias)  # no unit is dead, so the outputs tell the whole head
    return network.eval()


@pytest.fixture
def package(network: Net, command: Command, tmp_path: Path) -> Path:
    exported = torch.export.export(network, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: Dim("batch")},))
    torch.export.save(exported, tmp_path / "net.pt2")
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    shape = ("--classes", tmp_path / "classes.txt", "--input-size", SIDE, "--mean", "0,0,0", "--std", "1,1,1")
    assert command("package", tmp_path / "program", "--program", tmp_path / "net.pt2", *shape).code == 0
    return tmp_path / "program"


def test_a_program_is_calibrated_and_scores_as_the_network_it_was_exported_from(
    deployment: Deployment, command: Command, network: Net, package: Path
) -> None:
    options = ("--model", package, "--database", deployment.database)
    made = command("calibrate", deployment.home / "calibration", *options, "--json")
    assert json.loads(made.out)["reference"] == "program-r1"
    values = [png(i) for i in range(40)]
    deployment.produce(list(values))
    assert command("worker", "--source", deployment.source, *options, "--drain").code == 0
    pixels = torch.stack([torch.from_numpy(decode(value, None, limits=DecodeLimits())) for value in values])
    with torch.inference_mode():
        logits, _ = network(pixels.permute(0, 3, 1, 2) / 255)
    connection = sqlite3.connect(deployment.home / "oodwatch.db")
    energies = [energy for (energy,) in connection.execute("SELECT energy FROM score ORDER BY offset")]
    connection.close()
    assert energies == pytest.approx((-logits.logsumexp(1)).tolist(), abs=1e-5)


def test_the_residual_of_a_program_finds_the_head_in_the_outputs(
    deployment: Deployment, command: Command, network: Net, package: Path
) -> None:
    options = ("--model", package, "--database", deployment.database, "--json")
    wanted = ("--score", "energy+residual", "--residual-dimensions", 3)
    made = json.loads(command("calibrate", deployment.home / "calibration", *options, *wanted).out)
    engine = make_engine(deployment.database)
    with engine.connect() as conn:
        space = find_reference(conn, name="program-r1", model_id=made["model"]).residual
    engine.dispose()
    weight, bias = (values.detach().double().numpy() for values in network.head.parameters())
    assert space is not None
    assert space.axes.shape == (12, 3)
    np.testing.assert_allclose(space.origin, -np.linalg.pinv(weight) @ bias, atol=1e-3)
    (deployment.home / "odd").mkdir()
    for i in range(20):
        (deployment.home / "odd" / f"{i}.png").write_bytes(png(i))
    sets = ("--id", deployment.home / "calibration", "--ood", f"odd={deployment.home / 'odd'}")
    scores = [json.loads(line)["score"] for line in command("evaluate", *sets, *options).out.splitlines()]
    assert scores == ["energy", "softmax", "max_logit", "energy+residual"]


def test_a_program_in_reduced_precision_is_refused(deployment: Deployment, command: Command, package: Path) -> None:
    answer = command("score", deployment.home / "calibration", "--model", package, "--dtype", "bfloat16")
    answer.refuses(2, "'bfloat16'", "torch.export program", "use float32")
