"""Make a model package: check that everything fits, then write it in one move."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from pipeline.errors import EnvironmentFault, PackageError
from pipeline.models.checking import check_classifier, check_program
from pipeline.models.network import build_network, load_weights, read_state_dict
from pipeline.models.package import (
    CODE_FILE,
    PROGRAM_FILE,
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
    _refuse_existing(out, force)
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
        tensors = {name: value.detach().clone().contiguous() for name, value in state.items()}
        save_file(tensors, folder / WEIGHTS_FILE)
        (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors makes 0600, which a container's user cannot read
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
    _refuse_existing(out, force)
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


def _refuse_existing(out: Path, force: bool) -> None:
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
