"""Code and weights → a network: import the architecture, read the state dict, find the head."""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import PackageError

_NESTED_KEYS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")


def build_network(architecture: str, folder: Path | None, arguments: Mapping[str, Any]) -> nn.Module:
    """Call FILE.py:FUNCTION (relative to `folder`) or MODULE:FUNCTION; raises PackageError."""
    place, _, function = architecture.rpartition(":")
    module = _import_file((folder or Path()) / place) if place.endswith(".py") else _import_module(place)
    make = getattr(module, function, None)
    if not callable(make):
        names = [name for name in vars(module) if callable(getattr(module, name)) and not name.startswith("_")]
        raise PackageError(f"{place} has no function {function!r}; it has {', '.join(sorted(names)) or 'none'}")
    try:
        network = make(**arguments)
    except Exception as error:
        raise PackageError(f"{architecture} raised {type(error).__name__}: {error}; check --argument") from error
    if not isinstance(network, nn.Module):
        raise PackageError(f"{architecture} returned {type(network).__name__}, not a torch.nn.Module")
    return network.eval()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, or from .pt/.pth/.th without unpickling objects."""
    if not path.is_file():
        raise PackageError(f"weights {path}: there is no such file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise PackageError(f"weights {path}: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PackageError(
            f"weights {path}: not a plain state dict ({said[:120]}); loading it would run code from the file."
            " Save model.state_dict() instead, or a .safetensors file"
        ) from error
    return _tensors(content, path)


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], where: object) -> None:
    """Fill the network; raises PackageError that names the first differences."""
    own = network.state_dict()
    # Counters of training steps, unused in evaluation; checkpoints of old torch releases lack them.
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    extra = [name for name in weights if name not in own]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise PackageError(f"{where}: the weights do not fit the architecture: {'; '.join(problems)}")
    not_finite = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if not_finite:
        raise PackageError(f"{where}: {not_finite[0]} holds NaN or infinity; take another checkpoint")
    network.load_state_dict(dict(weights), strict=False)


def find_head(network: nn.Module, name: str, n_classes: int) -> nn.Linear:
    """The last linear layer; raises PackageError that lists the candidates."""
    layers = dict(network.named_modules())
    head = layers.get(name)
    if not isinstance(head, nn.Linear):
        linear = [layer for layer, module in layers.items() if isinstance(module, nn.Linear)]
        closest = difflib.get_close_matches(name, linear, n=1, cutoff=0.3)
        candidates = closest + [layer for layer in reversed(linear) if layer not in closest]
        what = "is no layer" if head is None else f"is a {type(head).__name__}, not a linear layer"
        raise PackageError(f"head {name!r} {what}; linear layers: {', '.join(candidates[:5]) or 'none'}")
    if head.out_features != n_classes:
        raise PackageError(
            f"{n_classes} class names for a head with {head.out_features} outputs; give one name a line, in order"
        )
    return head


def take_off_head(network: nn.Module, name: str) -> nn.Module:
    """Put Identity in the head's place, so that the network returns features; return the network."""
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network


def output_tensor(output: object) -> Tensor:
    """The network's output, or its `.logits`; raises PackageError for detection models and the like."""
    logits = getattr(output, "logits", output)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(logits, list | dict):
        raise PackageError(
            f"the model returns a {type(logits).__name__}, as detection models do; only multi-class classifiers"
            " whose output is logits (or has .logits) can be watched"
        )
    raise PackageError(f"the model returns {type(output).__name__}, not logits; wrap it so that it returns a tensor")


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = [content[key] for key in _NESTED_KEYS if isinstance(content.get(key), Mapping)]
        if not inner:
            raise PackageError(f"weights {path}: no tensors in it; keys: {', '.join(map(str, list(content)[:8]))}")
        content = inner[0]
    if not isinstance(content, Mapping):
        raise PackageError(f"weights {path}: holds a {type(content).__name__}, not a state dict")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _import_file(path: Path) -> object:
    if not path.is_file():
        raise PackageError(f"architecture {path}: there is no such file")
    name = f"oodwatch_model_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PackageError(f"architecture {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickled classes look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise PackageError(f"architecture {path}: {type(error).__name__}: {error}") from error
    return module


def _import_module(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PackageError(f"architecture module {name!r}: {error}; install it, or give FILE.py:FUNCTION") from error
