"""Make a model package: check that everything fits, then write it in one move."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.errors import EnvironmentFault, PackageError, RefusedError
from pipeline.models.checking import check_classifier, check_program
from pipeline.models.network import build_network, find_head, load_weights, read_state_dict
from pipeline.models.package import (
    CODE_FILE,
    PROGRAM_FILE,
    REPAIR_FILE,
    SPEC_FILE,
    WEIGHTS_FILE,
    ModelPackage,
    PackageSpec,
    check_spec,
    load_package,
    write_spec,
)
from pipeline.models.preprocessing import Preprocessing


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
    not what a multi-class classifier's head returns; and EnvironmentFault where the disk is full.
    """
    refuse_existing(out, force)
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

    def fill(folder: Path) -> None:
        _save_weights(state, folder)
        if from_file:
            shutil.copyfile(place, folder / CODE_FILE)

    return _write(out, spec, fill)


def make_program_package(
    out: Path,
    *,
    program: Path,
    classes: Path,
    preprocessing: Preprocessing,
    name: str | None = None,
    version: str = "1",
    force: bool = False,
) -> ModelPackage:
    """Write a package around a torch.export program that returns (logits, features).

    Raises PackageError as `make_package` does, and where the program holds pickled objects, calls
    anything but operators of ATen, or does not take batches of any size.
    """
    refuse_existing(out, force)
    spec = PackageSpec(
        name=name or out.resolve().name,
        version=version,
        classes=_read_classes(classes),
        architecture=PROGRAM_FILE,
        arguments={},
        head="",
        preprocessing=preprocessing,
    )
    check_spec(spec, out)
    check_program(program, spec)
    return _write(out, spec, lambda folder: shutil.copyfile(program, folder / PROGRAM_FILE))


def open_network(package: ModelPackage) -> nn.Module:
    """A package's network with its weights, to be repaired. Raises RefusedError for a program."""
    spec = package.spec
    if spec.is_program:
        raise RefusedError(
            f"{package.path} holds a torch.export program, whose layers cannot be trained or replaced: it has no linear"
            " head that can be named; package the model with --architecture, --weights and --head"
        )
    network = build_network(spec.architecture, package.path, spec.arguments)
    load_weights(network, read_state_dict(package.path / WEIGHTS_FILE), package.path)
    find_head(network, spec.head, len(spec.classes))
    return network


def make_repaired_package(
    out: Path, parent: ModelPackage, state: Mapping[str, Tensor], *, version: str
) -> ModelPackage:
    """Write a package like `parent` with other weights.

    Raises PackageError where the weights do not fit, EnvironmentFault where the disk is full.
    """
    spec = replace(parent.spec, version=version)
    network = build_network(spec.architecture, parent.path, spec.arguments)
    load_weights(network, state, "the repaired weights")
    check_classifier(network, spec)

    def fill(folder: Path) -> None:
        _save_weights(state, folder)
        if (parent.path / CODE_FILE).exists():
            shutil.copyfile(parent.path / CODE_FILE, folder / CODE_FILE)

    return _write(out, spec, fill)


def _save_weights(state: Mapping[str, Tensor], folder: Path) -> None:
    tensors = {name: value.detach().clone().contiguous() for name, value in state.items()}
    save_file(tensors, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors makes 0600, which a container's user cannot read


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


def refuse_existing(out: Path, force: bool) -> None:
    """Raise PackageError where something lies that must not be replaced."""
    if out.exists() and not force:
        raise PackageError(f"{out} exists; add --force to replace it")
    if out.exists() and not (out / SPEC_FILE).is_file():
        raise PackageError(f"{out} is no model package, so --force does not replace it; name another folder")


def _write(out: Path, spec: PackageSpec, fill: Callable[[Path], object]) -> ModelPackage:
    partial = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_spec(spec, partial)
        fill(partial)
        load_package(partial)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except (OSError, SafetensorError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise EnvironmentFault(f"{out}: {said}; free some space or name another place; nothing was written") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_package(out)


def write_repair(made: Path, parent: ModelPackage, repair: Mapping[str, Any]) -> None:
    """Keep with a package which model it was made of, how, and what came of it."""
    text = json.dumps({"parent": parent.model_id, **repair}, indent=1) + "\n"
    try:
        (made / REPAIR_FILE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"{made / REPAIR_FILE}: {error.strerror}; free some space and try again") from error


def move_package(made: Path, out: Path) -> ModelPackage:
    """Put a package that was made elsewhere on the same disk in its place, over what lies there."""
    if out.exists():
        shutil.rmtree(out)
    made.rename(out)
    return load_package(out)
