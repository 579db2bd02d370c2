"""Make a model package: check that everything fits, then write it in one move."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import PackageError
from pipeline.models.network import build_network, find_head, load_weights, output_tensor, read_state_dict
from pipeline.models.package import (
    CODE_FILE,
    WEIGHTS_FILE,
    ModelPackage,
    PackageSpec,
    check_spec,
    load_package,
    write_spec,
)
from pipeline.models.preprocessing import Normalise, Preprocessing


def make_package(
    out: Path,
    *,
    architecture: str,
    weights: Path,
    classes: Path,
    head: str,
    preprocessing: Preprocessing,
    name: str | None = None,
    version: str = "1",
    arguments: Mapping[str, Any] | None = None,
    force: bool = False,
) -> ModelPackage:
    """Write a package to `out`; nothing is left half-written.

    Raises PackageError, in one line that says what, where and the cure: `out` exists, the weights
    are pickled or do not fit, the head is missing, the classes are of another number, the output is
    not what a multi-class classifier's head returns.
    """
    if out.exists() and not force:
        raise PackageError(f"{out} exists; add --force to replace it")
    place = architecture.rpartition(":")[0]
    from_file = place.endswith(".py")
    spec = PackageSpec(
        name=name or out.resolve().name,
        version=version,
        classes=_read_classes(classes),
        architecture=architecture,
        arguments=dict(arguments or {}),
        head=head,
        preprocessing=preprocessing,
    )
    check_spec(spec, out)
    network = build_network(architecture, None, spec.arguments)
    state = read_state_dict(weights)
    load_weights(network, state, weights)
    check_classifier(network, spec)
    if from_file:
        spec = replace(spec, architecture=f"{CODE_FILE}:{architecture.rpartition(':')[2]}")
    return _write(out, spec, state, Path(place) if from_file else None)


def check_classifier(network: nn.Module, spec: PackageSpec) -> None:
    """Run two random images: the output must be logits, and exactly what the head makes of its input."""
    head = find_head(network, spec.head, len(spec.classes))
    inputs: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    side = spec.preprocessing.input_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, side, side, 3), generator=generator, dtype=torch.uint8)
    try:
        with torch.inference_mode():
            logits = output_tensor(network(Normalise(spec.preprocessing)(images)))
    except PackageError:
        raise
    except Exception as error:
        raise PackageError(
            f"the model fails on two images of {side} x {side}: {type(error).__name__}: {error}; check --input-size"
        ) from error
    finally:
        handle.remove()
    _check_task(network, logits)
    if logits.shape != (2, len(spec.classes)):
        raise PackageError(f"the model returns shape {tuple(logits.shape)}, expected (2, {len(spec.classes)})")
    if len(inputs) != 1 or inputs[0].ndim != 2:
        raise PackageError(f"head {spec.head!r} is not called once with a feature vector; name the last linear layer")
    with torch.inference_mode():
        from_head = head(inputs[0])
    if not torch.allclose(from_head, logits, rtol=1e-4, atol=1e-5):
        raise PackageError(
            f"the model's output is not the output of head {spec.head!r}: something follows it; energy needs the"
            " plain logits, so name the last linear layer and remove what comes after"
        )


def _check_task(network: nn.Module, logits: Tensor) -> None:
    last = list(network.modules())[-1]
    task = getattr(getattr(network, "config", None), "problem_type", None)
    if isinstance(last, nn.Sigmoid) or task == "multi_label_classification":
        raise PackageError("this is a multi-label model (sigmoid outputs); only multi-class classifiers can be watched")
    if logits.ndim == 2 and bool((logits >= 0).all()) and torch.allclose(logits.sum(1), torch.ones(len(logits))):
        raise PackageError("the model returns probabilities (rows sum to 1), not logits; remove its softmax")
    if logits.ndim == 2 and bool(((logits > 0) & (logits < 1)).all()):
        raise PackageError(
            "all outputs lie between 0 and 1: this looks like a multi-label model's sigmoid; remove it, and use"
            " only multi-class classifiers"
        )


def _read_classes(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PackageError(f"classes {path}: {error}") from error
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    if not names or "" in names:
        raise PackageError(f"classes {path}: write one name a line, without empty lines")
    return names


def _write(out: Path, spec: PackageSpec, state: Mapping[str, Tensor], code: Path | None) -> ModelPackage:
    from safetensors.torch import save_file

    partial = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_spec(spec, partial)
        save_file({name: value.detach().clone().contiguous() for name, value in state.items()}, partial / WEIGHTS_FILE)
        if code is not None:
            shutil.copyfile(code, partial / CODE_FILE)
        load_package(partial)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except OSError as error:
        raise PackageError(f"{out}: {error.strerror or error}; nothing was written") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_package(out)
