from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import PackageError
from pipeline.models.classifier import Classifier
from pipeline.models.package import load_package
from pipeline.models.packaging import make_package
from pipeline.models.preprocessing import Preprocessing, fit

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, after="nothing", classes=3):
        super().__init__()
        self.flat = nn.Flatten()
        self.hidden = nn.Linear(48, 6)
        self.head = nn.Linear(6, classes)
        self.after = {"softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid()}.get(after, nn.Identity())
        self.how = after

    def forward(self, x):
        out = self.after(self.head(torch.relu(self.hidden(self.flat(x)))))
        if self.how == "boxes":
            return [{"boxes": out}]
        return out * 2 if self.how == "scale" else out

def net(**arguments):
    return Net(**arguments)

def number():
    return 3
"""


def shape(**changes: Any) -> Preprocessing:
    values: dict[str, Any] = {"input_size": 4, "resize": 4, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return Preprocessing(**values | changes)


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = {"hidden.weight": (6, 48), "hidden.bias": (6,), "head.weight": (3, 6), "head.bias": (3,)}
    return {name: torch.randn(*size, generator=generator) for name, size in sizes.items()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    torch.save(state(), tmp_path / "weights.pt")
    return tmp_path


def make(home: Path, **changes: Any) -> Path:
    out: Path = changes.pop("out", home / "package")
    values: dict[str, Any] = {
        "architecture": f"{home / 'net.py'}:net",
        "weights": home / "weights.pt",
        "classes": home / "classes.txt",
        "head": "head",
        "preprocessing": shape(),
    }
    make_package(out, **values | changes)
    return out


def refused(home: Path, text: str, **changes: Any) -> None:
    with pytest.raises(PackageError, match=text):
        make(home, **changes)
    assert not (home / "package").exists()
    assert not list(home.glob(".*part"))


def test_logits_are_the_head_applied_to_the_features(home: Path) -> None:
    classifier = Classifier(load_package(make(home)))
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    outputs = classifier.predict(images)
    weights = state()
    expected = outputs.features @ weights["head.weight"].numpy().T + weights["head.bias"].numpy()
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-5, atol=1e-5)
    assert outputs.features.shape == (5, 6)


def test_the_same_inputs_give_the_same_model_id_and_other_preprocessing_another(home: Path) -> None:
    first = load_package(make(home, out=home / "one"))
    again = load_package(make(home, out=home / "two", name="one"))
    other = load_package(make(home, out=home / "three", name="one", preprocessing=shape(mean=(0.4, 0.5, 0.5))))
    assert first.model_id == again.model_id
    assert first.model_id != other.model_id
    assert first.model_id.startswith("one@")


@pytest.mark.parametrize("nest", ["state_dict", "model", "model_state_dict"])
def test_nested_state_dicts_with_a_module_prefix_are_understood(home: Path, nest: str) -> None:
    torch.save({nest: {f"module.{name}": value for name, value in state().items()}, "epoch": 3}, home / "weights.pt")
    assert load_package(make(home)).spec.classes == ("a", "b", "c")


def test_safetensors_are_read(home: Path) -> None:
    from safetensors.torch import save_file

    save_file(state(), home / "weights.safetensors")
    plain = load_package(make(home, out=home / "one", name="m"))
    assert load_package(make(home, weights=home / "weights.safetensors", name="m")).digest == plain.digest


def test_a_package_loads_without_the_files_it_was_made_from(home: Path) -> None:
    package = make(home)
    (home / "net.py").unlink()
    (home / "weights.pt").unlink()
    images = np.zeros((1, 4, 4, 3), np.uint8)
    assert Classifier(load_package(package)).predict(images).features.shape == (1, 6)


def test_a_pickled_model_is_refused_and_nothing_is_run(home: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (home / "ran",))

    torch.save({"state_dict": Evil()}, home / "weights.pt")
    refused(home, "state_dict")
    assert not (home / "ran").exists()


def test_what_does_not_fit_is_refused_by_name(home: Path) -> None:
    (home / "two.txt").write_text("a\nb\n")
    (home / "twice.txt").write_text("a\na\nc\n")
    refused(home, "2 class names for a head with 3 outputs", classes=home / "two.txt")
    refused(home, "class names repeat", classes=home / "twice.txt")
    refused(home, "linear layers: head", head="heda")
    refused(home, "not a linear layer", head="flat")
    refused(home, "no function 'nte'", architecture=f"{home / 'net.py'}:nte")
    refused(home, "returned int", architecture=f"{home / 'net.py'}:number")
    refused(home, "fails on two images", preprocessing=shape(input_size=5, resize=5))
    refused(home, "std", preprocessing=shape(std=(0.0, 1.0, 1.0)))
    refused(home, "no such file", weights=home / "none.pt")


def test_models_that_are_no_multi_class_classifiers_are_refused_by_name(home: Path) -> None:
    refused(home, "multi-label", arguments={"after": "sigmoid"})
    refused(home, "probabilities", arguments={"after": "softmax"})
    refused(home, "detection", arguments={"after": "boxes"})
    refused(home, "something follows it", arguments={"after": "scale"})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"head.weight": torch.zeros(4, 6)}, "of another shape"),
        ({"extra": torch.zeros(1)}, "unexpected"),
        ({"head.bias": torch.full((3,), torch.nan)}, "NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused(home: Path, change: dict[str, torch.Tensor], text: str) -> None:
    torch.save(state() | change, home / "weights.pt")
    refused(home, text)


def test_missing_weights_are_named(home: Path) -> None:
    torch.save({name: value for name, value in state().items() if name != "head.bias"}, home / "weights.pt")
    refused(home, "1 missing \\(head.bias\\)")


def test_an_existing_folder_is_replaced_only_on_request(home: Path) -> None:
    make(home)
    with pytest.raises(PackageError, match="--force"):
        make(home)
    make(home, force=True, version="2")
    assert load_package(home / "package").spec.version == "2"


def test_a_folder_that_is_no_package_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="oodwatch package"):
        load_package(tmp_path)


def test_bfloat16_runs_the_backbone_and_leaves_the_head_in_float32(home: Path) -> None:
    package = load_package(make(home))
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    exact, half = Classifier(package).predict(images), Classifier(package, dtype="bfloat16").predict(images)
    weights = state()
    expected = half.features @ weights["head.weight"].numpy().T + weights["head.bias"].numpy()
    np.testing.assert_allclose(half.logits, expected, rtol=1e-5, atol=1e-5)
    assert 0 < np.abs(half.features - exact.features).max() < 0.1


@pytest.mark.parametrize(
    ("size", "expected"), [((10, 20), (8, 8)), ((20, 10), (8, 8)), ((3, 5), (8, 8)), ((8, 8), (8, 8))]
)
def test_images_are_resized_by_their_shorter_side_and_cropped(size: tuple[int, int], expected: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    cut = fit(pixels, shape(input_size=8, resize=10))
    assert cut.shape == (*expected, 3)


def test_an_image_of_the_right_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit(pixels, shape()), pixels)


def test_bgr_models_see_the_channels_turned_round(home: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    rgb = Classifier(load_package(make(home, out=home / "rgb")))
    bgr = Classifier(load_package(make(home, out=home / "bgr", preprocessing=shape(colour="BGR"))))
    np.testing.assert_allclose(rgb.predict(images).logits, bgr.predict(images[..., ::-1]).logits, rtol=1e-5)
