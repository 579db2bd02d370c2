"""Models of the library transformers from a local folder: nothing is fetched, nothing is unpickled."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

_CONFIG_FILE = "config.json"


def read_config(folder: Path, flag: str) -> dict[str, Any]:
    """config.json of a model in transformers' format. Raises UsageError where there is none."""
    file = folder / _CONFIG_FILE
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{flag} {folder}: no model in it ({_CONFIG_FILE} cannot be read); name a local folder in transformers'"
            " format, with config.json and model.safetensors"
        ) from error
    if not isinstance(config, dict):
        raise UsageError(f"{flag} {folder}: {_CONFIG_FILE} is no JSON object; save the model there again")
    return config


def load_local(folder: Path, flag: str, classes: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Model and processor, of the classes that the library gives for them.

    Raises UsageError: the library is missing, or the folder's weights are missing or of another shape.
    """
    try:
        from transformers.utils import logging as chatter

        model_class, processor_class = classes()
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{flag} needs the Python package {error.name}: install oodwatch[explain], or leave {flag} out"
        ) from error
    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    chatter.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        model, loading = model_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        processor = processor_class.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library raises anything: OSError, KeyError, SafetensorError, RuntimeError, ...
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"{flag} {folder}: cannot be loaded ({said}); save the model there again") from error
    if missing := sorted(loading["missing_keys"]):
        raise UsageError(
            f"{flag} {folder}: the weights lack {len(missing)} tensors, as {missing[0]}; save the whole model there"
        )
    return model, processor


def digest_of(folder: Path) -> str:
    """sha256 over weights and settings."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")):
        digest.update(path.name.encode())
        with path.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
