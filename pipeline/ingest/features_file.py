"""Features in a file: an .npz with labels and groups, or one array."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RefusedError, UsageError
from pipeline.records import Float32s, Float64s, Ints


@dataclass(frozen=True, slots=True, eq=False)
class FeaturesFile:
    """`x` (n, D) and, where there are, `y` and `g` (n,), and `model`, the id of the model that made them."""

    features: Float64s
    labels: Ints | None
    groups: tuple[str, ...] | None
    model: str | None


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRows:
    """The same for a comparison: rows in the file's own precision, labels as text."""

    rows: Float32s | Float64s  # (n, D)
    labels: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    model: str | None


def read_features(path: Path) -> FeaturesFile:
    """Read the file whole. Raises UsageError where an array is missing or of another shape."""
    arrays = _arrays(path)
    return FeaturesFile(
        features=arrays["x"].astype(np.float64),
        labels=arrays["y"].astype(np.int64) if "y" in arrays else None,
        groups=_texts(arrays, "g"),
        model=_model(arrays),
    )


def read_feature_rows(path: Path) -> FeatureRows:
    """An .npy of shape (n, D), or an .npz as `read_features` takes it. Raises UsageError for anything else."""
    arrays = _arrays(path) if path.suffix == ".npz" else {"x": _one_array(path)}
    x = arrays["x"]
    is_coarse = x.dtype.kind == "f" and x.dtype.itemsize < 8
    rows: Float32s | Float64s = x.astype(np.float32) if is_coarse else x.astype(np.float64)
    return FeatureRows(rows, _texts(arrays, "y"), _texts(arrays, "g"), _model(arrays))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("x", "y", "g", "model") if name in file.files}
            held = ", ".join(file.files) or "nothing"
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: no .npz file of plain arrays ({error}); write it with numpy.savez") from error
    x = arrays.get("x")
    if x is None or x.ndim != 2 or x.dtype.kind not in "fiu":
        raise UsageError(f"{path}: needs `x`, the features as numbers of shape (n, D); it holds {held}")
    for name in ("y", "g"):
        if name in arrays and arrays[name].shape != (len(x),):
            raise UsageError(
                f"{path}: `{name}` has shape {arrays[name].shape}, one of each of {len(x):,} rows is needed"
            )
    y = arrays.get("y")
    if y is not None and y.dtype.kind not in "iu":
        raise UsageError(f"{path}: `y` is of {y.dtype}; give the numbers of the classes, as int64")
    return arrays


def _one_array(path: Path) -> NDArray[Any]:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: no .npy file of a plain array ({error}); write it with numpy.save") from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind not in "fiu":
        found = f"{rows.dtype} of shape {rows.shape}" if isinstance(rows, np.ndarray) else "several arrays"
        raise UsageError(f"{path}: needs features as numbers of shape (n, D); it holds {found}")
    return rows


def _texts(arrays: dict[str, NDArray[Any]], name: str) -> tuple[str, ...] | None:
    return tuple(str(one) for one in arrays[name].tolist()) if name in arrays else None


def _model(arrays: dict[str, NDArray[Any]]) -> str | None:
    return str(arrays["model"]) if "model" in arrays else None


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
