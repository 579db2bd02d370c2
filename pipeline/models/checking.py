"""Does a model answer as a multi-class classifier does? Asked with random images before it is packaged."""

from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import PackageError
from pipeline.models.network import find_head, output_tensor
from pipeline.models.package import PackageSpec
from pipeline.models.preprocessing import Normalise
from pipeline.models.program import check_input, read_program, said
from pipeline.models.program_graph import build_module


def check_program(path: Path, spec: PackageSpec) -> None:
    """Run three random images together and alone: (logits, features), the same either way."""
    side, n_classes = spec.preprocessing.input_size, len(spec.classes)
    program = read_program(path)
    check_input(program, side, path)
    module = build_module(program, torch.device("cpu"), path)
    images = Normalise(spec.preprocessing)(_random_images(3, side)).contiguous()
    try:
        with torch.inference_mode():
            together = module(images)
            alone = [module(images[i : i + 1]) for i in range(len(images))]
    except Exception as error:
        raise PackageError(f"{path}: the program fails on images of {side} x {side} ({said(error)})") from error
    if len(together) != 2 or not all(_is_table(value, len(images)) for value in together):
        found = ", ".join(str(getattr(value, "shape", value)) for value in together)
        raise PackageError(
            f"{path}: the program must return (logits, features), float32 of (batch, K) and (batch, D); it returned"
            f" ({found}) for {len(images)} images; export a module that returns both"
        )
    logits = together[0]
    if logits.shape[1] != n_classes:
        raise PackageError(
            f"{n_classes} class names for a program with {logits.shape[1]} outputs; give one name a line, in order"
        )
    _check_values(logits)
    joined = [torch.cat(rows) for rows in zip(*alone, strict=True)]
    if not all(torch.allclose(one, whole, rtol=1e-3, atol=1e-4) for one, whole in zip(joined, together, strict=True)):
        raise PackageError(
            f"{path}: the program's answer for an image depends on its batch, or on chance; call model.eval() before"
            " the export"
        )


def check_classifier(network: nn.Module, spec: PackageSpec) -> None:
    """Run two random images: the output must be logits, and exactly what the head makes of its input."""
    head = find_head(network, spec.head, len(spec.classes))
    inputs: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    side = spec.preprocessing.input_size
    try:
        with torch.inference_mode():
            logits = output_tensor(network(Normalise(spec.preprocessing)(_random_images(2, side))))
    except PackageError:
        raise
    except Exception as error:
        raise PackageError(
            f"the model fails on two images of {side} x {side} ({said(error)}); check --input-size"
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
    _check_values(logits)


def _check_values(logits: Tensor) -> None:
    if not logits.isfinite().all():
        raise PackageError(
            "the model answers NaN or infinity to random images; take other weights, and check --mean and --std"
        )
    if logits.ndim == 2 and bool((logits >= 0).all()) and torch.allclose(logits.sum(1), torch.ones(len(logits))):
        raise PackageError("the model returns probabilities (rows sum to 1), not logits; remove its softmax")
    if logits.ndim == 2 and torch.allclose(logits.logsumexp(1), torch.zeros(len(logits)), atol=1e-5):
        raise PackageError("the model returns log-probabilities, whose energy is always 0; remove its log_softmax")
    if logits.ndim == 2 and bool(((logits >= 0) & (logits <= 1)).all()):
        raise PackageError(
            "all outputs lie between 0 and 1: this looks like a multi-label model's sigmoid; remove it, and use"
            " only multi-class classifiers"
        )


def _is_table(value: object, rows: int) -> bool:
    return isinstance(value, Tensor) and value.ndim == 2 and len(value) == rows and value.dtype is torch.float32


def _random_images(n: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, side, side, 3), generator=generator, dtype=torch.uint8)
