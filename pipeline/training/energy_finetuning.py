"""Energy-bounded fine-tuning: every step shows the network normal images and outliers, in one forward pass.

    images, outliers → varied → normalised → logits → CE + λ · energy hinges → SGD, cosine schedule

Source: Liu et al. 2020, arXiv:2010.03759, and the authors' code (wetliu/energy_ood, CIFAR/train.py): SGD
with Nesterov momentum 0.9, weight decay 5e-4, rate 1e-3 falling by half a cosine to 1e-6. Batch
normalisation sees both halves together there, and so it does here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import ModelFailure
from pipeline.models.network import output_tensor
from pipeline.records import Ints, Pixels
from pipeline.scoring.energy_bounded import EnergyBounds, LossTerms, energy_bounded_loss
from pipeline.training.batches import Augmentation, cosine_rate, vary

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
_VARIATION, _LAYERS = 1, 2  # what a random number is for, beside seed and step


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a person asks of a training; with the images it decides about every bit of the result."""

    bounds: EnergyBounds
    steps: int = 1000
    batch: int = 64  # normal images a step, and as many outliers
    rate: float = 1e-3
    augmentation: Augmentation = "flip+crop"
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and reports."""
        return asdict(self)


class Batch(NamedTuple):
    """The images of one step, uint8, as they come from their files."""

    images: Pixels  # (B, N, N, 3)
    labels: Ints  # (B,)
    outliers: Pixels  # (M, N, N, 3)


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one step saw, before it changed the weights."""

    step: int  # 1 is the first
    steps: int
    rate: float
    loss: float
    cross_entropy: float
    hinge_in: float  # nats²
    hinge_out: float
    energy_in: float  # mean, nats
    energy_out: float
    accuracy: float


class FineTuning:
    """A network in training, and how far it is."""

    def __init__(
        self,
        network: nn.Module,
        normalise: nn.Module,
        plan: TrainingPlan,
        *,
        device: torch.device,
        autocast: torch.dtype | None = None,
    ) -> None:
        self._network = network.to(device)
        self._normalise = normalise.to(device)
        self._plan = plan
        self._device = device
        self._precision = nullcontext() if autocast is None else torch.autocast(device.type, dtype=autocast)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimiser = torch.optim.SGD(
            trained, plan.rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
        )
        self.done = 0  # steps

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, beside plan and images."""
        return {"done": self.done, "network": self.weights(), "optimiser": self._optimiser.state_dict()}

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]

    def weights(self) -> dict[str, Tensor]:
        """The network's state dict, copied to the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self._network.state_dict().items()}

    def run(
        self, batches: Iterator[Batch], *, stop: Callable[[], bool], on_step: Callable[[StepMetrics], None]
    ) -> bool:
        """Take the remaining steps; False where `stop` ended it before the last.

        Raises ModelFailure where the loss is no number any more.
        """
        self._network.train()
        for batch in batches:
            on_step(self._step(batch))
            if self.done < self._plan.steps and stop():
                return False
        return True

    def _step(self, batch: Batch) -> StepMetrics:
        plan, step = self._plan, self.done
        rate = cosine_rate(step, plan.steps, plan.rate)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        labels = torch.from_numpy(batch.labels).to(self._device)
        logits = self._forward(batch, step)
        terms = energy_bounded_loss(logits[: len(labels)], labels, logits[len(labels) :], plan.bounds)
        self._check(terms, step)
        self._optimiser.zero_grad()
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            terms.total.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.done += 1
        right = (logits[: len(labels)].argmax(dim=1) == labels).float().mean()
        return StepMetrics(self.done, plan.steps, rate, *(float(value.detach()) for value in (*_means(terms), right)))

    def _forward(self, batch: Batch, step: int) -> Tensor:
        """Logits of both halves, float32. Layers that draw random numbers, as dropout, draw those of (seed, step)."""
        both = vary(
            np.concatenate([batch.images, batch.outliers]),
            self._plan.augmentation,
            np.random.default_rng((self._plan.seed, _VARIATION, step)),
        )
        images = self._normalise(torch.from_numpy(both).to(self._device))
        drawn = int(np.random.default_rng((self._plan.seed, _LAYERS, step)).integers(2**62))
        devices = [self._device] if self._device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            self._precision,
        ):
            torch.manual_seed(drawn)
            return output_tensor(self._network(images)).float()

    def _check(self, terms: LossTerms, step: int) -> None:
        if not bool(terms.total.isfinite()):
            raise ModelFailure(
                f"the loss is {float(terms.total.detach())} at step {step + 1} of {self._plan.steps}, with rate"
                f" {self._plan.rate:g}; lower --lr, or --weight; nothing was written"
            )


def _means(terms: LossTerms) -> tuple[Tensor, ...]:
    return (
        terms.total,
        terms.cross_entropy,
        terms.hinge_in,
        terms.hinge_out,
        terms.energy_in.mean(),
        terms.energy_out.mean(),
    )
