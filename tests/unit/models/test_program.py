"""Packages from torch.export programs: tiny ones, honest and otherwise."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from pipeline.errors import PackageError, UsageError
from pipeline.models.classifier import Classifier
from pipeline.models.package import load_package
from pipeline.models.packaging import make_program_package
from pipeline.models.preprocessing import Normalise, Preprocessing
from pipeline.models.program import read_program
from pipeline.models.program_graph import build_module

SHAPE = Preprocessing(8, 8, mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.5))


class Net(nn.Module):
    """Convolution, normalisation, dropout, and a head; `end` spoils the outputs."""

    def __init__(self, end: Callable[[Tensor, Tensor], object] = lambda logits, features: (logits, features)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)
        self.end = end

    def forward(self, images: Tensor) -> object:
        features = self.drop(torch.relu(self.norm(self.conv(images))).mean((2, 3)))
        return self.end(self.head(features), features)


class Attention(nn.Module):
    """Sizes that depend on the batch, a tensor made on the way, a constant, a split: what a ViT needs."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.register_buffer("places", torch.arange(5.0)[:, None], persistent=False)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], 1) + self.get_buffer("places")
        left, right = self.attention(tokens, tokens, tokens)[0].chunk(2, -1)
        features = torch.cat([right, left], -1)[:, 0] + torch.zeros(images.shape[0], 8, device=images.device)
        return self.head(features), features


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def export(network: nn.Module, path: Path, batch: object = Dim("batch"), side: int = 8) -> Path:
    program = torch.export.export(network, (torch.zeros(2, 3, side, side),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(seeded(Net).eval(), tmp_path_factory.mktemp("exported") / "model.pt2")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    return tmp_path


def make(home: Path, program: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {"classes": home / "classes.txt", "preprocessing": SHAPE}
    make_program_package(home / "package", program=program, **values | changes)
    return home / "package"


def refused(home: Path, text: str, program: Path, **changes: Any) -> None:
    with pytest.raises(PackageError, match=text) as refusal:
        make(home, program, **changes)
    assert "\n" not in str(refusal.value)
    assert not (home / "package").exists()
    assert not list(home.glob(".*part"))


def edited(home: Path, exported: Path, **files: Callable[[Any], object] | bytes) -> Path:
    """The same archive with some records changed: graph, weights, constants (as JSON) or inputs (as bytes)."""
    names = {
        "graph": "models/model.json",
        "weights": "data/weights/model_weights_config.json",
        "inputs": "data/sample_inputs/model.pt",
    }
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(home / "edited.pt2", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            for key, change in files.items():
                if name.endswith(names[key]):
                    content = change if isinstance(change, bytes) else _changed(content, change)
            target.writestr(name, content)
    return home / "edited.pt2"


def _changed(content: bytes, change: Callable[[Any], object]) -> bytes:
    values = json.loads(content)
    change(values)
    return json.dumps(values).encode()


def pictures(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("network", [Net, Attention])
def test_a_program_answers_as_the_network_that_it_was_exported_from(home: Path, network: type[nn.Module]) -> None:
    original = seeded(network).eval()
    classifier = Classifier(load_package(make(home, export(original, home / "model.pt2"))))
    with torch.inference_mode():
        logits, features = original(Normalise(SHAPE)(torch.from_numpy(pictures(5))))
    outputs = classifier.predict(pictures(5))
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs.features, features, rtol=1e-5, atol=1e-6)
    assert classifier.predict(pictures(1)).logits.shape == (1, 3)


def test_a_program_runs_on_another_device_than_it_was_exported_on(home: Path) -> None:
    program = read_program(export(seeded(Attention).eval(), home / "model.pt2"))
    module = build_module(program, torch.device("meta"), "x")
    logits, features = module(torch.zeros(7, 3, 8, 8, device="meta"))
    assert (logits.shape, features.shape) == ((7, 3), (7, 8))
    assert {value.device.type for value in (logits, features, *module.buffers())} == {"meta"}


def test_the_package_holds_the_program_and_its_digest_covers_it(home: Path, exported: Path) -> None:
    first = load_package(make(home, exported))
    assert (home / "package" / "program.pt2").read_bytes() == exported.read_bytes()
    again = load_package(make(home, exported, force=True))
    assert first.model_id == again.model_id
    assert sorted(file.name for file in (home / "package").iterdir()) == ["model.toml", "program.pt2"]
    (home / "package" / "program.pt2").write_bytes(exported.read_bytes() + b" ")
    assert load_package(home / "package").digest != first.digest


def test_reduced_precision_is_refused_by_name(home: Path, exported: Path) -> None:
    with pytest.raises(UsageError, match=r"program\.pt2 is a torch\.export program.*use float32"):
        Classifier(load_package(make(home, exported)), dtype="bfloat16")


@pytest.mark.parametrize(
    ("batch", "text"), [(None, "always 2 images"), (Dim("batch", min=1, max=64), "at most 64 images")]
)
def test_a_batch_of_a_fixed_or_bounded_size_is_refused_with_the_cure(home: Path, batch: object, text: str) -> None:
    refused(home, rf"{text}.*Dim\(\"batch\"\)", export(seeded(Net).eval(), home / "model.pt2", batch))


ENDS: dict[str, tuple[Callable[[Tensor, Tensor], object], str]] = {
    "logits alone": (lambda logits, features: logits, r"must return \(logits, features\)"),
    "three outputs": (lambda logits, features: (logits, features, features), r"must return \(logits, features\)"),
    "half precision": (lambda logits, features: (logits, features.half()), r"float32"),
    "a map of features": (lambda logits, features: (logits, features[:, :, None]), r"\(batch, K\) and \(batch, D\)"),
    "a sigmoid": (lambda logits, features: (logits.sigmoid(), features), "multi-label"),
    "a softmax": (lambda logits, features: (logits.softmax(1), features), "probabilities"),
    "a log-softmax": (lambda logits, features: (logits.log_softmax(1), features), "log-probabilities"),
    "infinity": (lambda logits, features: (logits / 0, features), "NaN or infinity"),
    "the batch's mean": (lambda logits, features: (logits - logits.mean(), features), "depends on its batch"),
    "noise": (lambda logits, features: (logits, features + torch.rand_like(features)), "or on chance"),
}


@pytest.mark.parametrize("name", ENDS)
def test_outputs_that_are_not_logits_and_features_are_refused(home: Path, name: str) -> None:
    end, text = ENDS[name]
    refused(home, text, export(seeded(lambda: Net(end)).eval(), home / "model.pt2"))


def test_a_program_exported_in_training_is_refused(home: Path) -> None:
    refused(home, r"model\.eval\(\)", export(seeded(Net).train(), home / "model.pt2"))


def test_what_does_not_fit_the_program_is_refused_by_name(home: Path, exported: Path) -> None:
    (home / "two.txt").write_text("a\nb\n")
    refused(home, "2 class names for a program with 3 outputs", exported, classes=home / "two.txt")
    refused(
        home, "not of 3 x 9 x 9; set --input-size", exported, preprocessing=Preprocessing(9, 9, SHAPE.mean, SHAPE.std)
    )
    refused(home, "no such file", home / "none.pt2")


def test_what_is_no_program_is_refused_with_the_cure(home: Path) -> None:
    (home / "text.pt2").write_text("hello")
    torch.save({"weight": torch.zeros(2)}, home / "state.pt2")
    for name in ("text.pt2", "state.pt2"):
        refused(home, r"not written by torch\.export\.save .*export it with", home / name)


def test_another_schema_and_a_damaged_graph_are_refused(home: Path, exported: Path) -> None:
    refused(home, "another schema", edited(home, exported, graph=lambda model: model["schema_version"].update(major=7)))
    refused(home, "cannot be read", edited(home, exported, graph=lambda model: nodes(model)[1].pop("inputs")))
    refused(
        home,
        "nothing else",
        edited(home, exported, graph=lambda model: model["graph_module"]["signature"]["input_specs"].pop()),
    )
    refused(
        home,
        "not written by",
        edited(home, exported, weights=lambda weights: weights["config"]["head.bias"].pop("path_name")),
    )


def nodes(model: Any) -> Any:
    return model["graph_module"]["graph"]["nodes"]


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickled_sample_inputs_are_never_opened(home: Path, exported: Path) -> None:
    program = edited(home, exported, inputs=pickle.dumps(Evil(home / "ran")))
    assert Classifier(load_package(make(home, program))).predict(pictures(2)).logits.shape == (2, 3)
    assert not (home / "ran").exists()


def test_guards_and_shape_expressions_are_never_evaluated(home: Path, exported: Path) -> None:
    code = f"__import__('pathlib').Path({str(home / 'ran')!r}).touch()"

    def poison(model: Any) -> None:
        model["guards_code"] = [code]
        for described in model["graph_module"]["graph"]["tensor_values"].values():
            for size in described["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = code

    make(home, edited(home, exported, graph=poison))
    assert not (home / "ran").exists()


def test_names_in_the_file_never_become_code(home: Path, exported: Path) -> None:
    evil = f"x=__import__('pathlib').Path({str(home / 'ran')!r}).touch();"
    text = {"images": evil, "conv2d": evil + "y", "p_conv_weight": evil + "z"}

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {text.get(key, key): rename(item) for key, item in value.items()}
        if isinstance(value, list):
            return [rename(item) for item in value]
        return text.get(value, value) if isinstance(value, str) else value

    make(home, edited(home, exported, graph=lambda model: model.update(rename(model))))
    assert not (home / "ran").exists()


def test_a_pickled_weight_is_refused_by_name(home: Path, exported: Path) -> None:
    program = edited(home, exported, weights=lambda weights: weights["config"]["head.bias"].update(use_pickle=True))
    refused(home, r"head\.bias is a pickled object", program)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "_operator.attrgetter",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.__class__.mro",
        "torch.ops.higher_order.cond",
        "torch.ops.mylib.relu.default",
    ],
)
def test_operators_other_than_atens_are_refused_by_name(home: Path, exported: Path, target: str) -> None:
    program = edited(home, exported, graph=lambda model: nodes(model)[0].update(target=target))
    refused(home, f"calls {target}, but only operators of ATen are taken", program)


def test_arguments_that_an_operator_does_not_have_are_refused(home: Path, exported: Path) -> None:
    program = edited(home, exported, graph=lambda model: nodes(model)[0]["inputs"][0].update(name="x);y("))
    refused(home, "which it does not have", program)
