"""The README's ten minutes, as it tells them, with smaller and untrained networks."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.typing_commands import Command
from tests.readme import blocks, commands_of

HEADING = "Your model in ten minutes"
BLOCKS = [block for block in blocks() if block.heading == HEADING]
EXPORTER, *MODELS = [block.text for block in BLOCKS if block.language == "python"]
(TYPED,) = [commands_of(block) for block in BLOCKS if block.language == "sh"]
#: What makes the README's networks small, by the library they come from.
SMALLER = {
    "torchvision": {" 224": " 32"},
    "timm": {},
    "transformers": {"ViTConfig(": "ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, "},
}


@pytest.mark.parametrize("library", SMALLER)
def test_the_ten_minutes_of_the_readme_run_as_they_stand(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    pytest.importorskip(library)  # timm is nowhere else of use here, and not among the locks
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (text,) = [text for text in MODELS if library in text]
    for long, short in SMALLER[library].items():
        assert long in text
        text = text.replace(long, short)
    size = "32" if " 32" in text else "224"
    exec(compile(EXPORTER + text, "README.md", "exec"), {})
    assert (tmp_path / "mine.pt2").is_file()
    (tmp_path / "classes.txt").write_text("cat\ndog\nroof\n")
    pictures(tmp_path / "validation-images", 25)
    pictures(tmp_path / "photos" / "cam-1", 5)
    pictures(tmp_path / "photos" / "cam-2", 3)
    for words in TYPED:
        assert words[0] == "oodwatch"
        answer = command(*(size if word == "224" else word for word in words[1:]))
        assert answer.code == 0, f"{words}: {answer.out}{answer.err}"
    with (tmp_path / "scores.csv").open(newline="") as exported:
        assert Counter(row["segment"] for row in csv.DictReader(exported)) == {"cam-1": 5, "cam-2": 3}


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
