"""The classifier: (B, N, N, 3) pixels → logits and features, on whatever device there is."""

import contextlib
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import PackageError, UsageError
from pipeline.models.device import device_of
from pipeline.models.network import (
    build_network,
    find_head,
    load_weights,
    output_tensor,
    read_state_dict,
    take_off_head,
)
from pipeline.models.package import PROGRAM_FILE, WEIGHTS_FILE, ModelPackage
from pipeline.models.preprocessing import Normalise
from pipeline.models.program import read_program
from pipeline.models.program_graph import build_module
from pipeline.records import Float64s, Outputs, Pixels

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Network(Protocol):
    """What a package holds, on its device."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and features (B, D), float32, of normalised images (B, 3, N, N)."""

    def head(self) -> tuple[Float64s, Float64s] | None:
        """See `Classifier.head`."""


class Classifier:
    """A loaded package with its preprocessing. Float32 means IEEE: TF32 is off.

    Raises PackageError (weights, head, program) and UsageError (device, dtype).
    """

    def __init__(
        self, package: ModelPackage, *, device: str = "auto", dtype: str = "float32", compile: bool = False
    ) -> None:
        if dtype not in _DTYPES:
            raise UsageError(f"dtype {dtype!r}: known are {', '.join(_DTYPES)}")
        self.package = package
        self.device = device_of(device)
        self.dtype = dtype
        self._normalise = Normalise(package.spec.preprocessing).to(self.device)
        self._network: Network = (_ProgramNetwork if package.spec.is_program else _HeadedNetwork)(
            package, self.device, dtype, compile
        )
        if self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False

    def predict(self, batch: Pixels) -> Outputs:
        """Logits (B, K) and features (B, D), float32, of (B, N, N, 3) uint8 RGB images."""
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(batch))
            if self.device.type == "cuda":
                images = images.pin_memory().to(self.device, non_blocking=True)
            logits, features = self._network(self._normalise(images))
            both = torch.cat([logits, features], dim=1).cpu().numpy()  # one copy from the device
        n_classes = logits.shape[1]
        return Outputs(both[:, :n_classes], both[:, n_classes:])

    def head(self) -> tuple[Float64s, Float64s] | None:
        """W (K, D) and b (K,) of the last linear layer: logits = W z + b. None where they are not at hand."""
        return self._network.head()

    def warm_up(self, batch: int) -> Outputs:
        """One forward pass of full size: allocations, kernels and compilation happen before the first record."""
        side = self.package.spec.preprocessing.input_size
        return self.predict(np.zeros((batch, side, side, 3), np.uint8))


class _HeadedNetwork:
    """A state dict in its architecture. The head is taken off and applied in float32, whatever the backbone runs in.

    Rounding logits to bfloat16 moves an energy by up to 0.05 nat, and casting back cannot undo it;
    so `dtype` other than float32 is autocast of the backbone alone.
    """

    def __init__(self, package: ModelPackage, device: torch.device, dtype: str, compile: bool) -> None:
        spec = package.spec
        network = build_network(spec.architecture, package.path, spec.arguments)
        load_weights(network, read_state_dict(package.path / WEIGHTS_FILE), package.path)
        self._where = f"{package.path}, head {spec.head!r}"
        self._head = find_head(network, spec.head, len(spec.classes)).to(device)
        backbone: nn.Module = take_off_head(network, spec.head).to(device).to(memory_format=torch.channels_last)
        self._backbone = torch.compile(backbone) if compile else backbone
        self._autocast = (
            contextlib.nullcontext() if dtype == "float32" else torch.autocast(device.type, dtype=_DTYPES[dtype])
        )

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with self._autocast:
            features = output_tensor(self._backbone(images))
        if features.ndim != 2 or features.shape[1] != self._head.in_features:
            raise PackageError(
                f"{self._where}: the features have shape {tuple(features.shape)}, the head takes"
                f" (batch, {self._head.in_features}); package the model again"
            )
        features = features.float()
        return self._head(features), features

    def head(self) -> tuple[Float64s, Float64s]:
        """b is zero where the layer has none."""
        weight = self._head.weight.detach().double().cpu().numpy()
        bias = self._head.bias
        return weight, np.zeros(len(weight)) if bias is None else bias.detach().double().cpu().numpy()


class _ProgramNetwork:
    """A torch.export program: its head cannot be taken off, so it runs in float32 or not at all."""

    def __init__(self, package: ModelPackage, device: torch.device, dtype: str, compile: bool) -> None:
        path = package.path / PROGRAM_FILE
        if dtype != "float32":
            raise UsageError(
                f"dtype {dtype!r}: {path} is a torch.export program, whose logits would be rounded too;"
                " use float32, or package the model with --architecture, --weights and --head"
            )
        module = build_module(read_program(path), device, path)
        self._run = torch.compile(module) if compile else module

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self._run(images.contiguous())  # as at the export: a view may depend on it
        return logits, features

    def head(self) -> None:
        """The graph does not name its last layer: it may be spelt in many ways."""
