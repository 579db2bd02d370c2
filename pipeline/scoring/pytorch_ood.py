"""Detectors of the library pytorch-ood (Kirchheim et al. 2022) beside our own scores, from logits and features.

Those that a forward pass of their own would need (ODIN, ReAct, ASH, ...) are left out: an evaluation passes
each image once. Higher is more unusual, as the library has it.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pipeline.errors import RefusedError, UsageError
from pipeline.records import Float64s, Ints, Outputs

Head = tuple[Float64s, Float64s]  # W (K, D), b (K,): logits = W z + b
Score = Callable[[Outputs], Float64s]

#: What each reads: logits, probabilities, features; `head`: features, and the last layer besides.
READS = {
    "Entropy": "logits",
    "KLMatching": "probabilities",
    "TemperatureScaling": "logits",
    "KNN": "features",
    "Mahalanobis": "features",
    "RMD": "features",
    "SHE": "head",
    "ViM": "head",
}


def fit_detectors(names: Sequence[str], outputs: Outputs, labels: Ints, head: Head | None) -> dict[str, Score]:
    """The named detectors, fitted on normal images.

    Args:
        outputs: of n images that no figure is computed on.
        labels: (n,) their classes; predicted ones where none are known.
        head: the model's last layer, float64; None where it is not at hand.

    Raises UsageError as `check_detectors` does and where a detector lacks what it reads, RefusedError for outputs
    that it cannot be fitted on.
    """
    check_detectors(names)
    for name in names:
        if READS[name] == "head" and head is None:
            raise UsageError(f"--detector {name} needs the model's last layer: evaluate images, with --model")
        if READS[name] in {"features", "head"} and not outputs.features.shape[1]:
            raise UsageError(f"--detector {name} needs features, and the ID set has none: add `features` to the .npz")
    return {name: _fitted(_library(), name, outputs, labels, head) for name in names}


def check_detectors(names: Sequence[str]) -> None:
    """Raises UsageError for an unknown name, and for a library that is not installed."""
    for name in names:
        if name not in READS:
            raise UsageError(f"--detector {name}: known are {', '.join(READS)}")
        _library()


def _library() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pytorch_ood.detector
    except (
        ImportError,
        RuntimeError,
        OSError,
    ) as error:  # a torchvision of another build than torch fails in many ways
        raise UsageError(
            f"pytorch-ood cannot be used: {error}; install oodwatch[pytorch-ood], with a torchvision of torch's build"
        ) from error
    library: ModuleType = pytorch_ood.detector
    return library


def _fitted(library: ModuleType, name: str, outputs: Outputs, labels: Ints, head: Head | None) -> Score:
    detector = _made(library, name, outputs, head)
    read = READS[name]
    logging.getLogger("pytorch_ood").setLevel(logging.ERROR)
    # KLMatching takes logits to be fitted, and probabilities to score.
    rows = _rows(outputs, "logits" if read == "probabilities" else read)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector.fit_features(rows, torch.from_numpy(labels))
    except (AssertionError, ValueError, RuntimeError) as error:
        counts = np.bincount(labels)
        raise RefusedError(
            f"--detector {name} cannot be fitted on {len(labels)} images ({str(error) or 'a class is missing'}; of the"
            f" rarest class there are {counts.min()}): give more ID images"
        ) from error

    def score(some: Outputs) -> Float64s:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores: Float64s = detector.predict_features(_rows(some, read)).double().numpy()
        return scores

    return score


def _made(library: ModuleType, name: str, outputs: Outputs, head: Head | None) -> Any:
    if head is None or READS[name] != "head":
        return getattr(library, name)(None)
    weight, bias = (torch.from_numpy(np.asarray(part, np.float32)) for part in head)
    if name == "SHE":
        return library.SHE(None, lambda features: features @ weight.T + bias)
    return library.ViM(None, max(1, outputs.features.shape[1] // 2), weight, bias)


def _rows(outputs: Outputs, read: str) -> torch.Tensor:
    if read in {"features", "head"}:
        return torch.from_numpy(outputs.features)
    logits = torch.from_numpy(outputs.logits)
    return logits.softmax(dim=1) if read == "probabilities" else logits
