"""What is measured. Each function returns one ratio a repetition."""

import io
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sqlalchemy import Engine, create_engine, insert
from sqlalchemy.orm import Session

from pipeline.assembly.calibrating import run_calibration
from pipeline.assembly.evaluating import run_evaluation
from pipeline.assembly.parts import open_model
from pipeline.assembly.working import run_worker
from pipeline.evaluate import Plan
from pipeline.ingest.decode import DecodeLimits, decode
from pipeline.ingest.spool import NewRecord, Spool
from pipeline.ingest.spool_subscription import SpoolSubscription
from pipeline.models.packaging import make_package
from pipeline.models.preprocessing import Preprocessing
from pipeline.records import Outputs
from pipeline.scoring.energy import score_logits
from pipeline.scoring.residual import EnergyResidualScore, fit_residual_spaces
from pipeline.settings import Settings, SourceSettings, load_settings
from pipeline.shift.histogram import fine_edges, rank_edges
from pipeline.shift.rollup import encode, summarise_groups
from pipeline.storage.engine import open_database
from pipeline.storage.schema import ScoreRow, from_microseconds
from pipeline.storage.scores import NewScore, insert_scores
from tests.golden.resnet20 import resnet20

ROW_OVERHEAD = 30  # bytes of a roll-up row's keys in SQLite

NULL_NETWORK = """
import torch
from torch import nn


class Null(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


def null():
    return Null()
"""


def pipeline_over_forward(home: Path, repetitions: int) -> list[float]:
    """Images a CPU second through spool, worker and SQLite, over the bare forward pass of the same batches."""
    torch.set_num_threads(1)
    golden = Path(__file__).parents[1] / "golden" / "resnet20.py"
    settings = _deployment(home, f"{golden}:resnet20", resnet20().state_dict(), "linear")
    images = 1536
    spool = Spool(home / "spool", "images")
    classifier = open_model(settings).classifier
    batch = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
    classifier.predict(batch)
    ratios = []
    for repetition in range(repetitions):
        spool.append([NewRecord(_jpeg(32, repetition * images + i)) for i in range(images)])
        bare = _cpu(lambda: [classifier.predict(batch) for _ in range(images // 256)])
        overhead = _cpu(lambda: open_model(settings).classifier.warm_up(256))
        whole = _cpu(lambda: _drain(settings)) - overhead
        ratios.append(bare / whole)
    return ratios


def worker_over_message_loop(home: Path, repetitions: int) -> list[float]:
    """CPU time an image of a loop that decodes, scores and commits one message at a time, over the worker's."""
    torch.set_num_threads(1)
    code = home / "null.py"
    code.write_text(NULL_NETWORK)
    state = {"head.weight": torch.randn(10, 3), "head.bias": torch.zeros(10)}
    settings = _deployment(home, f"{code}:null", state, "head")
    spool = Spool(home / "spool", "images")
    ratios = []
    for repetition in range(repetitions):
        images = 8192
        spool.append([NewRecord(_jpeg(32, repetition * 97 + i % 256)) for i in range(images)])
        overhead = _cpu(lambda: open_model(settings).classifier.warm_up(256))
        worker = (_cpu(lambda: _drain(settings)) - overhead) / images
        loop = _cpu(lambda: _message_loop(home, settings, 150)) / 150
        ratios.append(loop / worker)
    return ratios


def bulk_over_core_insert(home: Path, repetitions: int) -> list[float]:
    """CPU time of SQLAlchemy Core's insert of 1,024 rows, over that of the sink's way."""
    engine = open_database(f"sqlite:///{home / 'rows.db'}")
    columns = NewScore._fields
    ratios = []
    for repetition in range(repetitions):
        rows = [_row(repetition * 100_000 + i) for i in range(1024 * 10)]
        typed: list[dict[str, Any]] = [dict(zip(columns, _row(10**9 + row.offset), strict=True)) for row in rows]
        for values in typed:
            values["event_time"] = from_microseconds(values["event_time"])
            for name in ("is_ood", "repeat", "drill"):
                values[name] = bool(values[name])
        fast = _cpu(partial(_in_batches, engine, rows, insert_scores))
        core = _cpu(partial(_in_batches, engine, typed, lambda conn, some: conn.execute(insert(ScoreRow), some)))
        ratios.append(core / fast)
    engine.dispose()
    return ratios


def decode_over_pillow(home: Path, repetitions: int) -> list[float]:
    """CPU time of Pillow over ours, for the same 100 JPEGs of 224 px."""
    values = [_jpeg(224, i) for i in range(100)]
    limits = DecodeLimits()
    ratios = []
    for _ in range(repetitions):
        ours = _cpu(lambda: [decode(value, None, limits=limits) for value in values])
        pillow = _cpu(lambda: [np.asarray(Image.open(io.BytesIO(value)).convert("RGB")) for value in values])
        ratios.append(pillow / ours)
    return ratios


def energy_over_forward(home: Path, repetitions: int) -> list[float]:
    """CPU time of energy, maximum softmax, class and finite check over that of the forward pass."""
    torch.set_num_threads(1)
    network = resnet20().eval().to(memory_format=torch.channels_last)
    images = torch.randn(256, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    outputs = Outputs(np.random.randn(256, 10).astype(np.float32), np.zeros((256, 64), np.float32))
    ratios = []
    for _ in range(repetitions):
        with torch.inference_mode():
            forward = _cpu(lambda: [network(images) for _ in range(2)]) / 2
        ratios.append(_cpu(lambda: [score_logits(outputs) for _ in range(200)]) / 200 / forward)
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
            forward = _cpu(lambda: [network(images) for _ in range(2)]) / 2
        ratios.append(_cpu(lambda: [score(outputs) for _ in range(200)]) / 200 / forward)
    return ratios


def evaluation_over_forward(home: Path, repetitions: int) -> list[float]:
    """CPU time of reading, scoring and comparing 1,500 ID and 4 x 250 OOD JPEGs over that of their forward passes."""
    torch.set_num_threads(1)
    golden = Path(__file__).parents[1] / "golden" / "resnet20.py"
    settings = _deployment(home, f"{golden}:resnet20", resnet20().state_dict(), "linear")
    classifier = open_model(settings).classifier
    batch = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    classifier.predict(batch)
    names = ["id", "a", "b", "c", "d"]
    for at, name in enumerate(names):
        (home / name).mkdir()
        for i in range(250 if at else 1500):
            (home / name / f"{i}.jpg").write_bytes(_jpeg(32, at * 10_000 + i))
    oods = [(name, str(home / name)) for name in names[1:]]
    plan = Plan((1.0,), 0.05, None, 12)
    ratios = []
    for _ in range(repetitions):
        bare = _cpu(lambda: [classifier.predict(batch) for _ in range(2500 // 64)]) * 2500 / (2500 // 64 * 64)
        loading = _cpu(lambda: open_model(settings))
        whole = _cpu(lambda: run_evaluation(settings, str(home / "id"), oods, plan)) - loading
        ratios.append(whole / bare)
    return ratios


def bytes_per_image(home: Path, repetitions: int) -> list[float]:
    """Stored bytes of the roll-up parts of a batch of 256 over 50 segments, keys included."""
    results = []
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        calibration = np.sort(rng.normal(-14, 5, 2000))
        scores = rng.normal(-14, 5, 256)
        batch: dict[str, Any] = {
            "scores": scores,
            "energies": scores,
            "flags": scores > -6,
            "class_index": rng.integers(0, 10, 256),
            "properties": rng.random((256, 5)),
            "repeats": rng.random(256) < 0.01,
            "late_clocks": rng.random(256) < 0.01,
            "edges": rank_edges(calibration),
            "fine_edges": fine_edges(calibration),
            "n_classes": 10,
        }
        segments = summarise_groups(rng.integers(0, 50, 256), 50, projected=None, **batch)
        pooled = summarise_groups(np.zeros(256, np.int64), 1, projected=rng.normal(size=(256, 16)), **batch)
        parts = [part for part in segments + pooled if part.n]
        results.append(sum(len(encode(part)) + ROW_OVERHEAD for part in parts) / 256)
    return results


def _deployment(home: Path, architecture: str, state: dict[str, torch.Tensor], head: str) -> Settings:
    (home / "classes.txt").write_text("\n".join("abcdefghij"))
    torch.save(state, home / "weights.pt")
    third = (0.5, 0.5, 0.5)
    make_package(
        home / "model",
        architecture=architecture,
        weights=home / "weights.pt",
        classes=home / "classes.txt",
        head=head,
        preprocessing=Preprocessing(32, 32, third, third),
    )
    files = []
    for i in range(200):
        files.append((home / f"{i}.jpg", None))
        files[-1][0].write_bytes(_jpeg(32, 10**6 + i))
    settings = load_settings(
        database=f"sqlite:///{home / 'bench.db'}",
        source=SourceSettings(url=f"spool:{home / 'spool'}/images"),
        model=home / "model",
    )
    run_calibration(settings, files, target_fpr=0.05, temperature=1.0, representative=False)
    return settings


def _drain(settings: Settings) -> None:
    run_worker(settings, start_at="earliest", drain=True, stop=threading.Event())


def _message_loop(home: Path, settings: Settings, count: int) -> None:
    """What a user would write first."""
    parts = open_model(settings)
    engine = create_engine(f"sqlite:///{home / 'bench.db'}")
    subscription = SpoolSubscription(home / "spool", "images", group="loop", max_records=1, max_bytes=1)
    for number in subscription.poll(0).assigned:
        subscription.seek(number, 0)
    for i in range(count):
        for fetched in (subscription.poll(1.0).fetched or {}).values():
            (record,) = fetched.records
            pixels = np.array(Image.open(io.BytesIO(record.value or b"")).convert("RGB"))
            scores = score_logits(parts.classifier.predict(pixels[None]))
            values: dict[str, Any] = dict(zip(NewScore._fields, _row(time.time_ns()), strict=True))
            values |= {"event_time": datetime.now(UTC), "energy": float(scores.energy[0]), "offset": time.time_ns() + i}
            with Session(engine) as session:
                session.add(ScoreRow(**values))
                session.commit()
    subscription.close()
    engine.dispose()


def _in_batches(engine: Engine, rows: list[Any], write: Callable[[Any, list[Any]], object]) -> None:
    for first in range(0, len(rows), 1024):
        with engine.begin() as conn:
            write(conn, rows[first : first + 1024])


def _row(offset: int) -> NewScore:
    return NewScore(
        1, offset, 1_700_000_000_000_000 + offset, 1, 1, 1, f"camera-1/{offset}.jpg", None, None, b"h" * 32,
        3, -12.5, -12.5, 0.9, 0, 0, 0,
    )  # fmt: skip


def _jpeg(side: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    waves = [127 + 80 * np.sin(x / rng.uniform(3, 9) + y / rng.uniform(3, 9)) for _ in range(3)]
    noisy = np.clip(np.stack(waves, -1) + rng.normal(0, 12, (side, side, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=85)
    return out.getvalue()


def _cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
