from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.ingest.outputs_file import OutputsFile


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_portions_put_together_are_the_arrays(tmp_path: Path, write: object, rows: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "logits": rng.normal(size=(23, 4)),
        "features": rng.normal(size=(23, 9)).astype(np.float16),
        "labels": rng.integers(0, 4, 23),
    }
    assert callable(write)
    write(tmp_path / "a.npz", **arrays)
    file = OutputsFile(tmp_path / "a.npz")
    portions = list(file.portions(rows))
    assert (file.size, file.names) == (23, frozenset(arrays))
    assert max(len(portion["logits"]) for portion in portions) == min(rows, 23)
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.concatenate([portion[name] for portion in portions]), array)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"

    def said(**arrays: np.ndarray) -> str:
        np.savez(path, allow_pickle=True, **arrays)
        with pytest.raises(UsageError) as caught:
            list(OutputsFile(path).portions(10))
        return str(caught.value)

    logits = np.zeros((5, 3))
    assert "`labels` has shape (4,)" in said(logits=logits, labels=np.zeros(4))
    assert "2 dimensions" in said(logits=np.zeros(5))
    assert "Fortran" in said(logits=np.asfortranarray(np.arange(15.0).reshape(5, 3)))
    assert "of object" in said(logits=np.full((5, 3), None))
    assert "it holds a" in said(a=logits)
    path.write_text("no archive")
    with pytest.raises(UsageError, match=r"numpy\.savez"):
        OutputsFile(path)
