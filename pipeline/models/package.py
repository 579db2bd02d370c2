"""The model package on disk: one folder that says all about a classifier.

    model.toml            name, version, classes, architecture, head, preprocessing
    weights.safetensors   the state dict
    model.py              the architecture, where it was given as a file
    repair.json           where the weights came from a repair: of which model, how, before and after

or, in place of the last two, program.pt2, a torch.export program. Nothing is ever unpickled.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PackageError
from pipeline.models.preprocessing import Preprocessing

FORMAT = 1
SPEC_FILE, WEIGHTS_FILE, CODE_FILE, PROGRAM_FILE = "model.toml", "weights.safetensors", "model.py", "program.pt2"
REPAIR_FILE = "repair.json"  # for people and the registry; not part of the digest


@dataclass(frozen=True, slots=True)
class PackageSpec:
    """What model.toml says."""

    name: str
    version: str
    classes: tuple[str, ...]
    architecture: str  # model.py:function, module:function or program.pt2
    arguments: Mapping[str, Any]
    head: str  # the last linear layer; its input is the feature vector. Empty for a program
    preprocessing: Preprocessing

    @property
    def is_program(self) -> bool:
        """Whether a torch.export program takes the place of architecture, weights and head."""
        return self.architecture == PROGRAM_FILE


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package as found on disk."""

    spec: PackageSpec
    path: Path
    digest: str  # sha256 over weights and code, or program, and preprocessing and classes

    @property
    def model_id(self) -> str:
        """name@sha256, shortened to 12 digits."""
        return f"{self.spec.name}@{self.digest[:12]}"


def load_package(path: Path) -> ModelPackage:
    """Read and check a package, without its weights' values.

    Raises PackageError that names the file, the key and the cure.
    """
    file = path / SPEC_FILE
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PackageError(
            f"{path} is no model package ({SPEC_FILE} is missing); make one with `oodwatch package`"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PackageError(f"{file}: {error}") from error
    if values.get("format") != FORMAT:
        raise PackageError(f"{file}: format {values.get('format')!r}, this release reads {FORMAT}; package it again")
    if values.get("task", "multi-class") != "multi-class":
        raise PackageError(f"{file}: task {values['task']!r} is not supported, energy needs a multi-class classifier")
    spec = _spec(file, values)
    return ModelPackage(spec, path, _digest(path, spec))


def write_spec(spec: PackageSpec, folder: Path) -> None:
    """Write model.toml. TOML's strings and lists are JSON's."""
    shape = spec.preprocessing
    lines = [
        f"format = {FORMAT}",
        f"name = {json.dumps(spec.name)}",
        f"version = {json.dumps(spec.version)}",
        'task = "multi-class"',
        f"architecture = {json.dumps(spec.architecture)}",
        *([] if spec.is_program else [f"head = {json.dumps(spec.head)}  # its input is the feature vector"]),
        f"classes = {json.dumps(list(spec.classes), ensure_ascii=False)}",
        "",
        "[preprocessing]",
        f"input_size = {shape.input_size}",
        f"resize = {shape.resize}  # shorter side, antialiased bilinear; then centre crop to input_size",
        f"mean = {json.dumps(list(shape.mean))}  # on a 0..1 scale, in the order of `colour`",
        f"std = {json.dumps(list(shape.std))}",
        f"colour = {json.dumps(shape.colour)}",
        f"exif_orientation = {json.dumps(shape.exif_orientation)}",
        "",
        "[arguments]",
        *(f"{name} = {json.dumps(value)}" for name, value in sorted(spec.arguments.items())),
    ]
    (folder / SPEC_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _spec(file: Path, values: dict[str, Any]) -> PackageSpec:
    known = {"format", "name", "version", "task", "architecture", "head", "classes", "preprocessing", "arguments"}
    if unknown := sorted(values.keys() - known):
        raise PackageError(f"{file}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        shape = dict(values["preprocessing"])
        shape["mean"], shape["std"] = tuple(shape["mean"]), tuple(shape["std"])
        spec = PackageSpec(
            name=values["name"],
            version=values["version"],
            classes=tuple(values["classes"]),
            architecture=values["architecture"],
            arguments=values.get("arguments", {}),
            head="" if values["architecture"] == PROGRAM_FILE else values["head"],
            preprocessing=Preprocessing(**shape),
        )
    except KeyError as error:
        raise PackageError(f"{file}: key {error} is missing; package the model again") from error
    except TypeError as error:
        raise PackageError(f"{file}: {error}; package the model again") from error
    check_spec(spec, file)
    return spec


def check_spec(spec: PackageSpec, where: Path) -> None:
    """Raise PackageError where a value cannot be right."""
    shape = spec.preprocessing
    problems = {
        f"{len(spec.classes)} classes; at least two are needed": len(spec.classes) < 2,
        "class names repeat": len(set(spec.classes)) != len(spec.classes),
        f"input size {shape.input_size}; must be above 0": shape.input_size < 1,
        f"resize {shape.resize}; must be above 0": shape.resize < 1,
        f"std {shape.std}; must be three numbers above 0": len(shape.std) != 3 or min(shape.std) <= 0,
        f"mean {shape.mean}; must be three numbers": len(shape.mean) != 3,
        f"colour {shape.colour!r}; must be RGB or BGR": shape.colour not in {"RGB", "BGR"},
        f"architecture {spec.architecture!r}; write FILE.py:FUNCTION or MODULE:FUNCTION": (
            ":" not in spec.architecture and not spec.is_program
        ),
    }
    for text, is_wrong in problems.items():
        if is_wrong:
            raise PackageError(f"{where}: {text}")


def _digest(path: Path, spec: PackageSpec) -> str:
    digest = hashlib.sha256()
    described = {
        "classes": spec.classes,
        "preprocessing": asdict(spec.preprocessing),
        "architecture": spec.architecture,
        "arguments": dict(spec.arguments),
        "head": spec.head,
    }
    digest.update(json.dumps(described, sort_keys=True).encode())
    for name in (PROGRAM_FILE,) if spec.is_program else (CODE_FILE, WEIGHTS_FILE):
        file = path / name
        if name == CODE_FILE and not file.exists():
            continue
        try:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise PackageError(f"{file}: {error.strerror}; package the model again") from error
    return digest.hexdigest()
