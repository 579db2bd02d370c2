"""A program's graph → a module: every node anew, under names of our own, from operators of ATen alone.

Names in the file never reach generated code; they are keys of a dictionary.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch._ops import OpOverload

from pipeline.errors import PackageError
from pipeline.models.program import DTYPES, Program, said

_ATEN = "torch.ops.aten."
_ARITHMETIC = {  # of sizes
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
}
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_LAYOUTS = {7: torch.strided}


def build_module(program: Program, device: torch.device, where: object) -> fx.GraphModule:
    """The program as a module on a device: images (B, 3, N, N) → a tuple of its outputs.

    Raises PackageError that names what this release does not take.
    """
    try:
        return _Builder(program, device).build()
    except PackageError as error:
        raise PackageError(f"{where}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise PackageError(f"{where}: the program's graph cannot be read ({said(error)}); export it again") from error


class _Builder:
    def __init__(self, program: Program, device: torch.device) -> None:
        self._program = program
        self._device = device
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._values: dict[str, fx.Node] = {}
        self._readers: dict[str, Callable[[Any], Any]] = {
            "as_none": lambda _: None,
            "as_int": int,
            "as_float": float,  # "Infinity" and "NaN" come as text
            "as_bool": bool,
            "as_string": str,
            "as_tensor": lambda value: self._values[value["name"]],
            "as_optional_tensor": self._argument,
            "as_sym_int": self._size,
            "as_sym_float": self._size,
            "as_sym_bool": self._size,
            "as_scalar_type": DTYPES.__getitem__,
            "as_memory_format": _MEMORY_FORMATS.__getitem__,
            "as_layout": _LAYOUTS.__getitem__,
            "as_device": lambda _: device,  # wherever it was exported
        }

    def build(self) -> fx.GraphModule:
        signature = self._program.signature
        for number, spec in enumerate(signature["input_specs"]):
            ((kind, source),) = spec.items()
            self._add_input(number, kind, source)
        for node in self._program.graph["nodes"]:
            self._add_call(node)
        self._graph.output(tuple(self._output(spec) for spec in signature["output_specs"]))
        return fx.GraphModule(self._root, self._graph)

    def _add_input(self, number: int, kind: str, source: Mapping[str, Any]) -> None:
        if kind == "user_input":
            self._values[source["arg"]["as_tensor"]["name"]] = self._graph.placeholder("images")
        elif kind in {"parameter", "buffer", "tensor_constant"}:
            tensor = self._program.tensors[source[f"{kind}_name"]]
            self._root.register_buffer(f"tensor{number}", tensor.to(self._device))
            self._values[source["arg"]["name"]] = self._graph.get_attr(f"tensor{number}")
        else:
            raise PackageError(f"the program takes a {kind}; export a network whose only input is images")

    def _add_call(self, node: Mapping[str, Any]) -> None:
        target, inputs, results = node["target"], node["inputs"], node["outputs"]
        arguments = {given["name"]: self._argument(given["arg"]) for given in inputs}
        if target in _ARITHMETIC:
            call = self._graph.call_function(_ARITHMETIC[target], tuple(arguments.values()))
        else:
            call = self._graph.call_function(_aten_operator(target, arguments), (), arguments)
        if len(results) == 1 and "as_tensors" in results[0]:
            results = [{"as_tensor": result} for result in results[0]["as_tensors"]]
        elif len(results) == 1:
            self._values[_name(results[0])] = call
            return
        for at, result in enumerate(results):
            if "as_none" not in result:
                self._values[_name(result)] = self._graph.call_function(operator.getitem, (call, at))

    def _output(self, spec: Mapping[str, Any]) -> Any:
        ((kind, source),) = spec.items()
        if kind != "user_output":
            raise PackageError(f"the program changes its own state ({kind}); call model.eval() before the export")
        return self._argument(source["arg"])

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        one = kind.removesuffix("s")
        if one not in self._readers:
            raise PackageError(
                f"the program has an argument of kind {kind}, which is not taken; export a plain network"
            )
        read = self._readers[one]
        return read(value) if kind == one else [read(item) for item in value]

    def _size(self, value: Mapping[str, Any]) -> Any:
        return self._values[value["as_name"]] if "as_name" in value else self._argument(value)


def _aten_operator(target: str, arguments: Mapping[str, Any]) -> OpOverload[..., Any]:
    """An operator of ATen that touches no file, with these arguments."""
    packet, _, overload = target.removeprefix(_ATEN).partition(".")
    found = getattr(getattr(torch.ops.aten, packet, None), overload, None) if target.startswith(_ATEN) else None
    known = {argument.name for argument in found._schema.arguments} if isinstance(found, OpOverload) else {"filename"}
    if not isinstance(found, OpOverload) or "filename" in known:
        raise PackageError(
            f"the program calls {target}, but only operators of ATen are taken; export a plain network, or the"
            " result of program.run_decompositions()"
        )
    if unknown := arguments.keys() - known:
        raise PackageError(f"the program calls {target} with {min(unknown)!r}, which it does not have; export it again")
    return found


def _name(result: Mapping[str, Any]) -> str:
    ((_, value),) = result.items()
    return str(value["name"] if "name" in value else value["as_name"])
