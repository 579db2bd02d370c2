"""What the pipeline costs beside the model, and beside what one would write first."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.assembly.evaluating import run_evaluation
from pipeline.assembly.parts import open_model
from pipeline.evaluate import Plan
from pipeline.ingest.source import NewRecord
from pipeline.ingest.spool import Spool
from pipeline.records import Outputs
from pipeline.scoring.energy import score_logits
from pipeline.scoring.precision_recall import image_support
from pipeline.scoring.residual import EnergyResidualScore, fit_residual_spaces
from pipeline.settings import Settings
from tests.benchmarks.inputs import deployment, jpeg, null_deployment
from tests.benchmarks.message_loop import MessageLoop, spool_messages
from tests.benchmarks.running import RunningWorker
from tests.benchmarks.timing import process_cpu_s, thread_cpu_s
from tests.golden.resnet20 import resnet20
from tests.golden.resnet50 import resnet50

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Load:
    """A network of random weights, and the pictures that it is given."""

    make: Callable[[], nn.Module]  # of tests/golden, from the file of its name
    head: str
    side: int
    images: int  # a repetition
    batch: int

    def deployment(self, home: Path, **where: Any) -> Settings:
        name, side, batch = self.make.__name__, self.side, self.batch
        architecture, state = f"{GOLDEN / name}.py:{name}", self.make().state_dict()
        return deployment(
            home, architecture, state, self.head, side=side, calibration_images=40, max_batch=batch, **where
        )

    def pictures(self) -> list[NewRecord]:
        return [NewRecord(jpeg(self.side, self.side, seed)) for seed in range(self.images)]


RESNET20 = Load(resnet20, "linear", side=32, images=1536, batch=256)
RESNET50 = Load(resnet50, "fc", side=224, images=64, batch=16)


def resnet20_over_forward(home: Path, repetitions: int) -> list[float]:
    """Images a CPU second through spool, worker and SQLite, over the bare forward pass; ResNet-20 at 32 px."""
    return _through_spool(RESNET20, home, repetitions)


def resnet50_over_forward(home: Path, repetitions: int) -> list[float]:
    """The same with ResNet-50 at 224 px: the forward pass is nearly all there is."""
    return _through_spool(RESNET50, home, repetitions)


def worker_over_message_loop(home: Path, repetitions: int) -> list[float]:
    """CPU time an image of a loop that decodes, scores and commits one message at a time, over the worker's."""
    torch.set_num_threads(1)
    settings = null_deployment(home)
    spool = Spool(home / "spool", "images")
    images, looped = 8192, 150
    pictures = [NewRecord(jpeg(32, 32, i)) for i in range(256)]
    produce = partial(spool.append, pictures * (images // 256))
    ratios = []
    with RunningWorker(settings) as worker:
        worker.cpu_s(produce, images)
        with closing(MessageLoop(settings, spool_messages(home / "spool"))) as loop:
            for _ in range(repetitions):
                batched = worker.cpu_s(produce, images) / images
                naive = thread_cpu_s(partial(loop.run, looped)) / looped
                ratios.append(naive / batched)
    return ratios


def energy_over_forward(home: Path, repetitions: int) -> list[float]:
    """CPU time of energy, maximum softmax, class and finite check over that of the forward pass, ResNet-20."""
    torch.set_num_threads(1)
    network = resnet20().eval().to(memory_format=torch.channels_last)
    images = torch.randn(256, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    outputs = Outputs(np.random.randn(256, 10).astype(np.float32), np.zeros((256, 64), np.float32))
    ratios = []
    for _ in range(repetitions):
        with torch.inference_mode():
            forward = thread_cpu_s(lambda: [network(images) for _ in range(2)]) / 2
        ratios.append(thread_cpu_s(lambda: [score_logits(outputs) for _ in range(200)]) / 200 / forward)
    return ratios


def residual_over_forward(home: Path, repetitions: int) -> list[float]:
    """CPU time of energy + residual in 16 of 64 dimensions over that of the forward pass."""
    torch.set_num_threads(1)
    network = resnet20().eval().to(memory_format=torch.channels_last)
    images = torch.randn(256, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    rng = np.random.default_rng(0)
    outputs = Outputs(rng.normal(3, 1, (256, 10)).astype(np.float32), rng.normal(size=(256, 64)).astype(np.float32))
    score = EnergyResidualScore(fit_residual_spaces(outputs, np.zeros(64), (16,))[16])
    ratios = []
    for _ in range(repetitions):
        with torch.inference_mode():
            forward = thread_cpu_s(lambda: [network(images) for _ in range(2)]) / 2
        ratios.append(thread_cpu_s(lambda: [score(outputs) for _ in range(200)]) / 200 / forward)
    return ratios


def support_over_forward(home: Path, repetitions: int) -> list[float]:
    """CPU time of the support by 2,000 images in 16 dimensions over that of the forward pass, ResNet-20 at 32 px."""
    torch.set_num_threads(1)
    network = resnet20().eval().to(memory_format=torch.channels_last)
    images = torch.randn(256, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    rng = np.random.default_rng(0)
    supports = image_support(rng.normal(size=(2000, 16)))
    assert supports is not None
    projected = rng.normal(size=(256, 16))
    ratios = []
    for _ in range(repetitions):
        with torch.inference_mode():
            forward = thread_cpu_s(lambda: [network(images) for _ in range(2)]) / 2
        ratios.append(thread_cpu_s(lambda: [supports(projected) for _ in range(50)]) / 50 / forward)
    return ratios


def evaluation20_over_forward(home: Path, repetitions: int) -> list[float]:
    """CPU time of `evaluate` with ResNet-20, 1,500 ID and 4 x 250 OOD JPEGs of 32 px, over that of the passes."""
    return _evaluation_over_forward(RESNET20, 1500, 250, home, repetitions)


def evaluation50_over_forward(home: Path, repetitions: int) -> list[float]:
    """The same with ResNet-50, 448 ID and 4 x 16 OOD JPEGs of 224 px. Fitting the residual takes 0.8 s of it."""
    return _evaluation_over_forward(RESNET50, 448, 16, home, repetitions)


def _evaluation_over_forward(load: Load, n_id: int, n_ood: int, home: Path, repetitions: int) -> list[float]:
    """Reading, scoring and comparing; loading the model is taken away, as the bare passes do not load it either."""
    torch.set_num_threads(1)
    settings = load.deployment(home)
    classifier = open_model(settings).classifier
    side, batch = load.side, 64
    names = ["id", "a", "b", "c", "d"]
    sizes = [n_ood if at else n_id for at in range(len(names))]
    for at, (name, size) in enumerate(zip(names, sizes, strict=True)):
        (home / name).mkdir()
        for i in range(size):
            (home / name / f"{i}.jpg").write_bytes(jpeg(side, side, at * 10_000 + i))
    oods = [(name, str(home / name)) for name in names[1:]]
    ready = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)

    def bare() -> None:
        for size in sizes:
            for first in range(0, size, batch):
                classifier.predict(ready[: min(batch, size - first)])

    plan = Plan((1.0,), 0.05, None, 0)
    bare()
    ratios = []
    for _ in range(repetitions):
        passes = process_cpu_s(bare)
        loading = process_cpu_s(lambda: open_model(settings))
        whole = process_cpu_s(lambda: run_evaluation(settings, str(home / "id"), oods, plan)) - loading
        ratios.append(whole / passes)
    return ratios


def over_forward(load: Load, settings: Settings, produce: Callable[[], object], repetitions: int) -> list[float]:
    """CPU time of the bare pass over that of the worker, for as many images.

    The bare pass: float32 batches that lie ready in memory. Half of it is run before the pipeline and
    half after, so that a machine that grows slower or faster meanwhile does so for both.
    """
    torch.set_num_threads(1)
    ready = torch.randn(load.batch, 3, load.side, load.side).contiguous(memory_format=torch.channels_last)
    network = load.make().eval().to(memory_format=torch.channels_last)

    def half_of_the_forward_passes() -> None:
        with torch.inference_mode():
            for _ in range(load.images // load.batch // 2):
                network(ready)

    half_of_the_forward_passes()
    ratios = []
    with RunningWorker(settings) as worker:
        worker.cpu_s(produce, load.images)
        for _ in range(repetitions):
            before = thread_cpu_s(half_of_the_forward_passes)
            pipeline = worker.cpu_s(produce, load.images)
            after = thread_cpu_s(half_of_the_forward_passes)
            ratios.append((before + after) / pipeline)
    return ratios


def _through_spool(load: Load, home: Path, repetitions: int) -> list[float]:
    settings = load.deployment(home)
    spool = Spool(home / "spool", "images")
    return over_forward(load, settings, partial(spool.append, load.pictures()), repetitions)
