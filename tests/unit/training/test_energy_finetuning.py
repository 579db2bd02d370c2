from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import ModelFailure, UsageError
from pipeline.models.preprocessing import Normalise, Preprocessing
from pipeline.scoring.energy_bounded import EnergyBounds
from pipeline.training.batches import stream_rows
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.energy_finetuning import Batch, FineTuning, StepMetrics, TrainingPlan

SIDE = 8


def network() -> nn.Module:
    """All that makes a resumed training go astray: batch statistics, dropout, momentum."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 3),
        )


def training(plan: TrainingPlan, *, autocast: torch.dtype | None = None, net: nn.Module | None = None) -> FineTuning:
    shape = Preprocessing(SIDE, SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return FineTuning(net or network(), Normalise(shape), plan, device=torch.device("cpu"), autocast=autocast)


def batches(plan: TrainingPlan, start: int = 0) -> Iterator[Batch]:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 60)
    images = rng.integers(0, 100, (60, SIDE, SIDE, 3)).astype(np.uint8)
    images[np.arange(60), :, :, labels] += 100
    outliers = rng.integers(0, 256, (40, SIDE, SIDE, 3)).astype(np.uint8)
    for step in range(start, plan.steps):
        rows, others = (stream_rows(n, step * plan.batch, plan.batch, (plan.seed,)) for n in (60, 40))
        yield Batch(images[rows], labels[rows], outliers[others])


def plan(**values: Any) -> TrainingPlan:
    return TrainingPlan(**{"bounds": EnergyBounds(-4, 0), "steps": 12, "batch": 16, "rate": 0.05, **values})


def run(made: FineTuning, of: TrainingPlan, *, until: int | None = None) -> tuple[bool, list[StepMetrics]]:
    seen: list[StepMetrics] = []
    ended = made.run(batches(of, made.done), stop=lambda: made.done == until, on_step=seen.append)
    return ended, seen


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def test_a_training_that_was_stopped_goes_on_as_if_undisturbed_bit_for_bit(tmp_path: Path) -> None:
    of = plan()
    undisturbed = training(of)
    ended, _ = run(undisturbed, of)
    assert ended
    first = training(of)
    ended, seen = run(first, of, until=5)
    assert (ended, len(seen), first.done) == (False, 5, 5)
    save_checkpoint(tmp_path / "c", first.state(), {"seed": "0"})
    torch.manual_seed(99)  # what else the process draws does not matter
    second = training(of)
    second.go_on_from(load_checkpoint(tmp_path / "c", {"seed": "0"}))
    ended, seen = run(second, of)
    assert (ended, seen[0].step, seen[-1].step) == (True, 6, 12)
    assert same(second.weights(), undisturbed.weights())
    assert not same(second.weights(), first.weights())


def test_the_seed_alone_decides() -> None:
    results = []
    for seed in (1, 1, 2):
        of = plan(seed=seed)
        made = training(of)
        run(made, of)
        results.append(made.weights())
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_energies_move_apart_and_the_answers_stay_right() -> None:
    of = plan(steps=150, augmentation="none")
    _, seen = run(training(of), of)
    assert seen[0].energy_out - seen[0].energy_in < 0.5
    assert seen[-1].energy_out - seen[-1].energy_in > 2
    assert seen[-1].accuracy > 0.9
    assert seen[-1].loss < seen[0].loss


def test_mixed_precision_gives_nearly_the_same_loss() -> None:
    of = plan(steps=1)
    _, exact = run(training(of), of)
    _, rounded = run(training(of, autocast=torch.bfloat16), of)
    assert rounded[0].loss == pytest.approx(exact[0].loss, rel=0.02)
    assert rounded[0].loss != exact[0].loss


def test_frozen_layers_stay_as_they_are() -> None:
    of = plan()
    net = network()
    next(net.parameters()).requires_grad_(False)
    made = training(of, net=net)
    before = made.weights()
    run(made, of)
    assert torch.equal(made.weights()["0.weight"], before["0.weight"])
    assert not torch.equal(made.weights()["6.weight"], before["6.weight"])


def test_a_loss_that_is_no_number_ends_the_training_and_names_the_rate() -> None:
    of = plan(rate=1e12, steps=50)
    with pytest.raises(ModelFailure, match=r"the loss is (nan|inf) at step \d+ of 50, with rate 1e\+12; lower --lr"):
        run(training(of), of)


def test_a_checkpoint_of_another_training_is_refused_by_the_first_difference(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, {"done": 3}, {"model": "a@1", "steps": "12"})
    assert load_checkpoint(path, {"model": "a@1", "steps": "12"})["done"] == 3
    with pytest.raises(UsageError, match="belongs to a training with steps 12, not 13"):
        load_checkpoint(path, {"model": "a@1", "steps": "13"})


def test_a_checkpoint_that_is_missing_or_broken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is none to go on from"):
        load_checkpoint(tmp_path / "c", {})
    (tmp_path / "c").write_bytes(b"no checkpoint")
    with pytest.raises(UsageError, match="cannot be read"):
        load_checkpoint(tmp_path / "c", {})
