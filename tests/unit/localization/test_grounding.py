import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import UsageError
from pipeline.localization.grounding import TextGrounder
from tests.segmenting import SAM, save_tiny_detector


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_detector(tmp_path_factory.mktemp("detector"))


def test_words_become_boxes_inside_of_the_picture_the_most_confident_first(folder: Path) -> None:
    grounder = TextGrounder(folder, device=torch.device("cpu"), threshold=0.0)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    found = grounder.find(pixels, "cat", most=3)
    assert 1 <= len(found) <= 3
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for (x0, y0, x1, y1), _ in found:
        assert 0 <= x0 < x1 <= 79
        assert 0 <= y0 < y1 <= 49


def test_what_the_detector_is_not_sure_of_is_not_there(folder: Path) -> None:
    grounder = TextGrounder(folder, device=torch.device("cpu"), threshold=1.0)
    assert grounder.find(np.zeros((50, 80, 3), np.uint8), "cat") == []


def test_a_folder_without_a_detector_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a model of type 'sam'; name a zero-shot detector"):
        TextGrounder(SAM, device=torch.device("cpu"))
    with pytest.raises(UsageError, match="no model in it"):
        TextGrounder(tmp_path, device=torch.device("cpu"))
    shutil.copytree(folder, tmp_path / "torn")
    (tmp_path / "torn" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="cannot be loaded"):
        TextGrounder(tmp_path / "torn", device=torch.device("cpu"))
