"""A torch.export program (.pt2), read as data: its graph is JSON, its weights are raw bytes.

`torch.export.load` is not used, for it runs what the file says: it unpickles sample inputs, tensor
subclasses and custom objects, evaluates shape expressions and guards as Python, and loads compiled
libraries from the archive. Here nothing of that is touched: what reading as data does not cover is
refused by name.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PackageError

_SCHEMA_MAJOR = 8
_EXPORT = (
    "export it with torch 2.9 or newer by torch.export.export(model.eval(), (images,),"
    ' dynamic_shapes=({0: torch.export.Dim("batch")},)) and torch.export.save'
)
#: By their numbers in torch's serialised schema.
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class Program:
    """What an archive holds, as torch's schema names it."""

    graph: Mapping[str, Any]
    signature: Mapping[str, Any]
    ranges: Mapping[str, Any]  # bounds of symbolic sizes
    tensors: Mapping[str, Tensor]  # parameters, buffers and constants by name


def read_program(path: Path) -> Program:
    """Read graph and weights.

    Raises PackageError for what is no such archive, is of another format or holds a pickled object.
    """
    if not path.is_file():
        raise PackageError(f"program {path}: there is no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            root = archive.namelist()[0].split("/")[0]
            content = json.loads(archive.read(f"{root}/models/model.json"))
            if content["schema_version"]["major"] != _SCHEMA_MAJOR:
                raise PackageError(
                    f"program {path}: written by torch {content.get('torch_version')} in another schema; {_EXPORT}"
                )
            tensors = dict(_tensors(archive, f"{root}/data/weights", "weights", path))
            tensors |= _tensors(archive, f"{root}/data/constants", "constants", path)
        module = content["graph_module"]
        return Program(module["graph"], module["signature"], content["range_constraints"], tensors)
    except (zipfile.BadZipFile, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise PackageError(f"program {path}: not written by torch.export.save ({said(error)}); {_EXPORT}") from error


def check_input(program: Program, side: int, where: object) -> None:
    """Raise PackageError unless the program takes float32 images of side x side in batches of any size."""
    try:
        (name,) = [
            spec["user_input"]["arg"]["as_tensor"]["name"]
            for spec in program.signature["input_specs"]
            if "user_input" in spec
        ]
        described = program.graph["tensor_values"][name]
        dtype, (batch, *shape) = DTYPES[described["dtype"]], described["sizes"]
        symbols = re.findall(r"\w+", batch["as_expr"]["expr_str"]) if "as_expr" in batch else []
        largest = {program.ranges[name]["max_val"] for name in symbols if name in program.ranges} - {None}
        taken = [size.get("as_int") for size in shape]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise PackageError(
            f"{where}: the program must take one batch of images, and nothing else; {_EXPORT}"
        ) from error
    if dtype is not torch.float32:
        raise PackageError(f"{where}: the program takes {dtype}, not torch.float32; export it in float32")
    if not symbols or largest:
        limit = f"at most {min(largest)}" if largest else f"always {batch.get('as_int')}"
        raise PackageError(f"{where}: the program's batch is {limit} images, a worker's has any number; {_EXPORT}")
    if taken != [3, side, side]:
        raise PackageError(
            f"{where}: the program takes images of {' x '.join(map(str, taken))}, not of 3 x {side} x {side};"
            " set --input-size to the size that it was exported with"
        )


def said(error: Exception) -> str:
    """An error in a few words."""
    first, *_ = [*str(error).splitlines(), ""]
    return f"{type(error).__name__}: {first}"[:120]


def _tensors(archive: zipfile.ZipFile, folder: str, what: str, path: Path) -> Iterator[tuple[str, Tensor]]:
    config = json.loads(archive.read(f"{folder}/model_{what}_config.json"))["config"]
    storages: dict[str, Tensor] = {}
    for name, entry in config.items():
        described, place = entry["tensor_meta"], f"{folder}/{entry['path_name']}"
        if entry["use_pickle"] or described is None:
            raise PackageError(
                f"program {path}: {name} is a pickled object; loading it would run code from the file;"
                " export a network of plain tensors"
            )
        if place not in storages:
            content, dtype = archive.read(place), DTYPES[described["dtype"]]
            storages[place] = (
                torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.zeros(0, dtype=dtype)
            )
        sizes, strides = ([size["as_int"] for size in described[key]] for key in ("sizes", "strides"))
        yield name, torch.as_strided(storages[place], sizes, strides, described["storage_offset"]["as_int"])
