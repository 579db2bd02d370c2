"""The classifier: (B, N, N, 3) pixels → logits and features, on whatever device there is."""

import contextlib

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import PackageError, UsageError
from pipeline.models.network import (
    build_network,
    find_head,
    load_weights,
    output_tensor,
    read_state_dict,
    take_off_head,
)
from pipeline.models.package import WEIGHTS_FILE, ModelPackage
from pipeline.models.preprocessing import Normalise
from pipeline.records import Float64s, Outputs, Pixels

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Classifier:
    """A loaded package. The head is taken off and applied in float32, whatever the backbone runs in.

    Rounding logits to bfloat16 moves an energy by up to 0.05 nat, and casting back cannot undo it;
    so `dtype` other than float32 is autocast of the backbone alone. Float32 means IEEE: TF32 is off.

    Raises PackageError (weights, head) and UsageError (device, dtype).
    """

    def __init__(
        self, package: ModelPackage, *, device: str = "auto", dtype: str = "float32", compile: bool = False
    ) -> None:
        if dtype not in _DTYPES:
            raise UsageError(f"dtype {dtype!r}: known are {', '.join(_DTYPES)}")
        spec = package.spec
        self.package = package
        self.device = _device(device)
        self.dtype = dtype
        network = build_network(spec.architecture, package.path, spec.arguments)
        load_weights(network, read_state_dict(package.path / WEIGHTS_FILE), package.path)
        head = find_head(network, spec.head, len(spec.classes))
        self.feature_dim = head.in_features
        self._head = head.to(self.device)
        body = take_off_head(network, spec.head)
        self._backbone: nn.Module = body.to(self.device).to(memory_format=torch.channels_last)
        self._normalise = Normalise(spec.preprocessing).to(self.device)
        if self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        self._run = torch.compile(self._backbone) if compile else self._backbone

    def predict(self, batch: Pixels) -> Outputs:
        """Logits (B, K) and features (B, D), float32, of (B, N, N, 3) uint8 RGB images."""
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(batch))
            if self.device.type == "cuda":
                images = images.pin_memory().to(self.device, non_blocking=True)
            features = self._features(images)
            logits = self._head(features)
            both = torch.cat([logits, features], dim=1).cpu().numpy()  # one copy from the device
        n_classes = logits.shape[1]
        return Outputs(both[:, :n_classes], both[:, n_classes:])

    def head(self) -> tuple[Float64s, Float64s]:
        """W (K, D) and b (K,) of the last linear layer: logits = W z + b. b is zero where it has none."""
        weight = self._head.weight.detach().double().cpu().numpy()
        bias = self._head.bias
        return weight, np.zeros(len(weight)) if bias is None else bias.detach().double().cpu().numpy()

    def warm_up(self, batch: int) -> None:
        """One forward pass of full size: allocations, kernels and compilation happen before the first record."""
        side = self.package.spec.preprocessing.input_size
        self.predict(np.zeros((batch, side, side, 3), np.uint8))

    def _features(self, images: Tensor) -> Tensor:
        normalised = self._normalise(images)
        autocast = (
            contextlib.nullcontext()
            if self.dtype == "float32"
            else torch.autocast(self.device.type, dtype=_DTYPES[self.dtype])
        )
        with autocast:
            output = output_tensor(self._run(normalised))
        if output.ndim != 2 or output.shape[1] != self.feature_dim:
            raise PackageError(
                f"{self.package.path}: the features have shape {tuple(output.shape)}, head"
                f" {self.package.spec.head!r} takes (batch, {self.feature_dim}); package the model again"
            )
        return output.float()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used: {said}; use cpu, or auto") from error
    return device
