"""Images a second on a GPU, through spool, worker and SQLite, beside the bare forward pass.

    python -m tests.benchmarks.gpu                                          # ResNet-50, bfloat16, one GPU
    python -m tests.benchmarks.gpu --device cpu --images 64 --batch 8 --repetitions 1     # does it run at all?

Weights are random and pictures are made here: nothing is downloaded. Needs torch and the worker's own
libraries, nothing else. Wall time, because a GPU's work is not this process's CPU time.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pipeline.assembly.parts import decode_threads
from pipeline.ingest.source import NewRecord
from pipeline.ingest.spool import Spool
from pipeline.settings import Settings
from tests.benchmarks.inputs import deployment, jpeg
from tests.benchmarks.running import stored_per_s
from tests.golden.resnet50 import resnet50

ARCHITECTURE = f"{Path(__file__).parents[1] / 'golden' / 'resnet50.py'}:resnet50"
SIDE = 224
SIZES = ((224, 224), (640, 480))
PICTURES = 256  # different ones; a spool repeats them


def main() -> int:
    """Print one line per size of the JPEGs; 0 also where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--images", type=int, default=8192, help="a repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--decode-threads", type=int)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("skipped: no GPU that torch can use is here; --device cpu --images 64 --batch 8 shows that it runs")  # noqa: T201
        return 0
    worker = {
        "device": arguments.device,
        "dtype": arguments.dtype,
        "max_batch": arguments.batch,
        "compile": arguments.compile,
        "decode_threads": arguments.decode_threads,
        "max_records_in_flight": 8 * arguments.batch,
        "max_megabytes_in_flight": 2048,
    }
    for width, height in SIZES:
        with tempfile.TemporaryDirectory(prefix="oodwatch-gpu-") as folder:
            settings = deployment(
                Path(folder), ARCHITECTURE, resnet50().state_dict(), "fc", side=SIDE, calibration_images=64, **worker
            )
            line = _measure(Path(folder), settings, width, height, arguments.images, arguments.repetitions)
        print(json.dumps(line), flush=True)  # noqa: T201
    return 0


def _measure(
    home: Path, settings: Settings, width: int, height: int, images: int, repetitions: int
) -> dict[str, object]:
    """Bare pass before and after each turn of the pipeline, so that clocks and temperature are alike for both."""
    pictures = [NewRecord(jpeg(width, height, seed)) for seed in range(min(PICTURES, images))]
    spool = Spool(home / "spool", "images")
    batch = settings.worker.max_batch
    bare_pass = _bare_pass(settings, images // batch)
    bare_pass()
    bare, pipeline = [], []
    for _ in range(repetitions):
        for _ in range(images // len(pictures)):
            spool.append(pictures)
        before = bare_pass()
        pipeline.append(stored_per_s(settings))
        bare.append(statistics.fmean((before, bare_pass())))
    spool.close()
    ratios = [ours / theirs for ours, theirs in zip(pipeline, bare, strict=True)]
    return {
        "jpeg": f"{width}x{height}",
        "images_per_s": round(statistics.median(pipeline), 1),
        "bare_images_per_s": round(statistics.median(bare), 1),
        "ratio": round(statistics.median(ratios), 4),
        "low": round(min(ratios), 4),
        "high": round(max(ratios), 4),
        "batch": batch,
        "dtype": settings.worker.dtype,
        "decode_threads": decode_threads(settings),
        "cores": os.cpu_count(),
        "device": _device_name(settings.worker.device),
        "torch": torch.__version__,
    }


def _bare_pass(settings: Settings, batches: int) -> Callable[[], float]:
    """Images a second of the network alone, head included, on one batch that lies ready on the device."""
    device, dtype = torch.device(settings.worker.device), getattr(torch, settings.worker.dtype)
    batch = settings.worker.max_batch
    network: torch.nn.Module = resnet50().eval().to(device).to(memory_format=torch.channels_last)
    run = torch.compile(network) if settings.worker.compile else network
    images = torch.randn(batch, 3, SIDE, SIDE, device=device).contiguous(memory_format=torch.channels_last)

    def forward() -> float:
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            run(images)  # clocks rise, kernels are chosen
            _wait_for(device)
            began = time.perf_counter()
            for _ in range(batches):
                run(images)
            _wait_for(device)
        return batches * batch / (time.perf_counter() - began)

    return forward


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(name: str) -> str:
    return torch.cuda.get_device_name(torch.device(name)) if name.startswith("cuda") else name


if __name__ == "__main__":
    sys.exit(main())
