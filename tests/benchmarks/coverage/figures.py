"""Probabilistic precision and recall: the authors' figures, size, speed, and what is found in made-up traffic."""

import json
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pipeline.scoring.matched_null import MatchedNull
from pipeline.scoring.precision_recall import precision_recall
from pipeline.stages.coverage_report import BELOW
from tests.benchmarks.coverage.check import Check, at_least, at_most
from tests.shared_data import vectors

MODES = 6 / np.sqrt(2) * np.eye(16)[:5]  # four of normal traffic, 6 apart, and a new one
WINDOW, LARGE = 300, (10_000, 512)


def authors() -> Iterator[Check]:
    """Acceptance (1) and (2): the official figures; chunks and exchanged sets."""
    expected = json.loads(vectors("ppr_expected.json").read_text())
    with np.load(vectors("ppr_inputs.npz")) as file:
        sets = {name: torch.from_numpy(file[name]).double() for name in file.files}
    worst = {torch.float64: 0.0, torch.float32: 0.0}
    chunks = exchange = 0.0
    for name, figures in expected.items():
        reference, production = sets[f"{name}__ref"], sets[f"{name}__prod"]
        ask = {"a": figures["a"], "k": figures["k"]}
        for dtype, value in worst.items():
            made = precision_recall(reference.to(dtype), production.to(dtype), **ask)
            off = [abs(getattr(made, figure) - figures[figure]) for figure in ("p_precision", "p_recall")]
            worst[dtype] = max(value, *off)
        whole, other = precision_recall(reference, production, **ask), precision_recall(production, reference, **ask)
        exchange = max(exchange, abs(whole.p_precision - other.p_recall), abs(whole.p_recall - other.p_precision))
        for chunk in (7, 128, len(reference)):
            part = precision_recall(reference, production, chunk=chunk, **ask)
            chunks = max(chunks, abs(part.p_precision - whole.p_precision), abs(part.p_recall - whole.p_recall))
    yield at_most(f"(1) {len(expected)} cases of the authors, float64, worst error", worst[torch.float64], 1e-6)
    yield at_most(f"(1) {len(expected)} cases of the authors, float32, worst error", worst[torch.float32], 1e-4)
    yield at_most("(2) chunks of 7, 128 and all rows, worst difference", chunks, 1e-12)
    yield at_most("(2) exchanged sets, worst difference", exchange, 0)


def large() -> Iterator[Check]:
    """Acceptance (3): 10,000 x 10,000 x 512 in float32, on one thread."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    reference, production = (torch.from_numpy(rng.normal(size=LARGE).astype(np.float32)) for _ in range(2))
    precision_recall(reference[:100], production[:100])
    before_kb, began_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    precision_recall(reference, production)
    spent_s = time.process_time() - began_s
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    name = f"(3) {LARGE[0]:,} x {LARGE[0]:,} x {LARGE[1]}, float32"
    yield at_most(f"{name}, CPU time", spent_s, 60, " s")
    yield at_most(f"{name}, growth of memory", grown_mb, 1024, " MB")


def traffic(rng: np.random.Generator, n: int = WINDOW, *, modes: int = 4, novel: float = 0.0) -> Tensor:
    """Rows of some modes, and a share of a new one."""
    mode = np.where(rng.random(n) < novel, 4, rng.integers(0, modes, n))
    return torch.from_numpy(MODES[mode] + rng.normal(size=(n, 16)))


def with_outliers(rows: Tensor, rng: np.random.Generator) -> Tensor:
    """5 % of the rows at standard deviation 100."""
    far = torch.from_numpy(rng.random(len(rows)) < 0.05)[:, None]
    return torch.where(far, 100 * torch.from_numpy(rng.normal(size=rows.shape)), rows)


def stuck(rng: np.random.Generator, noise: float) -> Tensor:
    """One normal frame again and again."""
    frame = traffic(rng, 1)
    return frame + noise * torch.from_numpy(rng.normal(size=(WINDOW, 16)))


def made_up() -> Iterator[Check]:
    """Acceptance (5) to (8), "alarm" read as |z| > 4: a mixture of four modes in 16 dimensions.

    The z are of P-precision, of P-recall, and of P-recall in support.
    """
    null = MatchedNull(traffic(np.random.default_rng(0), 2000), WINDOW, rng=np.random.default_rng(1))

    def ask(make: Callable[[np.random.Generator], Tensor], times: int) -> np.ndarray:
        made = [null.compare(make(np.random.default_rng(100 + i))) for i in range(times)]
        return np.array([(one.p_precision.z, one.p_recall.z, one.p_recall_in_support.z) for one in made])

    def shown(found: np.ndarray) -> str:
        return " / ".join(f"{mean:+.1f}" for mean in found.mean(axis=0))

    healthy = ask(traffic, 100)[:, [0, 2]]
    beyond = int((np.abs(healthy) > -BELOW).any(axis=1).sum())
    yield Check(
        "(5) healthy windows of 300 with |z| > 4, of 100", f"{beyond} (largest {np.abs(healthy).max():.1f})", "<= 2",
        beyond <= 2,
    )  # fmt: skip
    for what, make, figure in (
        ("(6) one mode of four lost", partial(traffic, modes=3), 2),
        ("(6) the same with 5 % outliers", lambda rng: with_outliers(traffic(rng, modes=3), rng), 2),
        ("(7) 20 % novel", partial(traffic, novel=0.2), 0),
        ("(8) one frame, exactly", partial(stuck, noise=0.0), 2),
        ("(8) one frame with noise of 0.001", partial(stuck, noise=1e-3), 2),
    ):
        found = ask(make, 20)
        share = float((found[:, figure] < BELOW).mean())
        yield at_least(f"{what}: named, of 20 windows", share, 1, f"{share:.0%}; mean z {shown(found)}")
    clean = ask(lambda rng: with_outliers(traffic(rng), rng), 20)
    yield Check("    5 % outliers and nothing lost: mean z", shown(clean))
