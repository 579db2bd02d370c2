"""Features with labels and groups in an .npz file."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import RefusedError, UsageError
from pipeline.records import Float64s, Ints


@dataclass(frozen=True, slots=True, eq=False)
class FeaturesFile:
    """`x` (n, D) and, where there are, `y` and `g` (n,), and `model`, the id of the model that made them."""

    features: Float64s
    labels: Ints | None
    groups: tuple[str, ...] | None
    model: str | None


def read_features(path: Path) -> FeaturesFile:
    """Read the file whole. Raises UsageError where an array is missing or of another shape."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("x", "y", "g", "model") if name in file.files}
            held = ", ".join(file.files) or "nothing"
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: no .npz file of plain arrays ({error}); write it with numpy.savez") from error
    x = arrays.get("x")
    if x is None or x.ndim != 2 or x.dtype.kind not in "fiu":
        raise UsageError(f"{path}: needs `x`, the features as numbers of shape (n, D); it holds {held}")
    for name in ("y", "g"):
        if name in arrays and arrays[name].shape != (len(x),):
            raise UsageError(
                f"{path}: `{name}` has shape {arrays[name].shape}, one of each of {len(x):,} rows is needed"
            )
    y, g = arrays.get("y"), arrays.get("g")
    if y is not None and y.dtype.kind not in "iu":
        raise UsageError(f"{path}: `y` is of {y.dtype}; give the numbers of the classes, as int64")
    return FeaturesFile(
        features=x.astype(np.float64),
        labels=None if y is None else y.astype(np.int64),
        groups=None if g is None else tuple(str(group) for group in g.tolist()),
        model=str(arrays["model"]) if "model" in arrays else None,
    )


def check_features(file: FeaturesFile, path: Path, model_id: str, width: int) -> None:
    """Raise RefusedError where the features are another model's."""
    if file.model is not None and file.model != model_id:
        raise RefusedError(
            f"{path}: the features were made by model {file.model}, not by {model_id}: make them with this model, or"
            " name the other as --model"
        )
    if file.features.shape[1] != width:
        raise RefusedError(
            f"{path}: {file.features.shape[1]} features a row, the head of {model_id} takes {width}: these are another"
            " model's"
        )
