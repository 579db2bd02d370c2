"""Checkpoints: a training that was interrupted goes on as if nothing had happened. Tensors and plain values only."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import EnvironmentFault, UsageError

_FORMAT = 1


def save_checkpoint(path: Path, state: Mapping[str, Any], made_for: Mapping[str, str]) -> None:
    """Replace the checkpoint in one move. Raises EnvironmentFault where the disk is full."""
    partial = path.with_name(f".{path.name}.part")
    try:
        torch.save({"format": _FORMAT, "made_for": dict(made_for), "state": dict(state)}, partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError where there is no space
        partial.unlink(missing_ok=True)
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise EnvironmentFault(f"checkpoint {path}: {said}; free some space or name another --out") from error


def load_checkpoint(path: Path, made_for: Mapping[str, str]) -> Mapping[str, Any]:
    """The state of a training of the same model, plan and images.

    Raises UsageError where there is none, or where it belongs to another training; the first difference is named.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        known, found, state = content["format"], content["made_for"], content["state"]
    except FileNotFoundError as error:
        raise UsageError(f"checkpoint {path}: there is none to go on from; leave --resume out") from error
    except Exception as error:
        raise UsageError(f"checkpoint {path}: cannot be read ({type(error).__name__}); delete it and begin anew") from (
            error
        )
    if known != _FORMAT:
        raise UsageError(f"checkpoint {path}: format {known!r}, this release reads {_FORMAT}; delete it and begin anew")
    for what, value in made_for.items():
        if found.get(what) != value:
            raise UsageError(
                f"checkpoint {path}: belongs to a training with {what} {found.get(what)}, not {value}; give the same"
                " again, or delete it and begin anew"
            )
    checked: Mapping[str, Any] = state
    return checked
