"""Speed, as ratios in one run: `make bench`, or python -m tests.benchmarks --only write --repetitions 9.

CPU time of the process counts; each pair is measured in turn, the median of the ratios is printed.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import measures

MEASURES: dict[str, tuple[Callable[[Path, int], list[float]], str, float, bool]] = {
    "resnet20": (measures.pipeline_over_forward, "pipeline / bare forward pass, ResNet-20 at 32 px", 0.85, True),
    "null": (measures.worker_over_message_loop, "worker / per-message loop, null network", 30.0, True),
    "write": (measures.bulk_over_core_insert, "row write / Core insert, SQLite, 1,024 rows", 2.0, True),
    "decode": (measures.decode_over_pillow, "JPEG decode / Pillow, 224 px", 1.8, True),
    "energy": (measures.energy_over_forward, "energy / forward pass, ResNet-20", 0.01, False),
    "residual": (measures.residual_over_forward, "energy + residual / forward pass, ResNet-20", 0.01, False),
    "evaluate": (measures.evaluation_over_forward, "evaluate / bare forward pass, ResNet-20 at 32 px", 1.10, False),
    "parts": (measures.bytes_per_image, "roll-up bytes an image, 50 segments, batch 256", 100.0, False),
}


def main() -> int:
    """Print one line a measure; exit 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MEASURES, action="append")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    missed = 0
    for name in arguments.only or MEASURES:
        measure, title, target, higher_is_better = MEASURES[name]
        with tempfile.TemporaryDirectory(prefix="oodwatch-bench-") as folder:
            values = measure(Path(folder), arguments.repetitions)
        median = statistics.median(values)
        met = median >= target if higher_is_better else median <= target
        missed += not met
        line = {
            "measure": name,
            "median": median,
            "low": min(values),
            "high": max(values),
            "target": target,
            "met": met,
        }
        sign = ">=" if higher_is_better else "<="
        text = f"{title:<52} {median:9.4g}  ({min(values):.4g} .. {max(values):.4g})  target {sign} {target:g}"
        print(json.dumps(line) if arguments.json else f"{text}  {'met' if met else 'MISSED'}", flush=True)  # noqa: T201
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
