"""What is stored of support, and what a person may get wrong: through the worker and the command."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sqlalchemy import func, select
from typer.testing import CliRunner

from pipeline.assembly.calibrating import run_calibration
from pipeline.cli.app import app
from pipeline.errors import OodwatchError
from pipeline.models.classifier import Classifier
from pipeline.models.package import load_package
from pipeline.models.packaging import make_package
from pipeline.models.preprocessing import Preprocessing
from pipeline.scoring.precision_recall import precision_recall
from pipeline.storage.engine import open_database
from pipeline.storage.references import find_reference, reference_features
from pipeline.storage.schema import ScoreRow
from tests.benchmarks.coverage.check import Check, at_most
from tests.tiny import SIDE, Deployment, make_deployment, pixels, png

ALWAYS = ("--from", "2020-01-01T00:00Z", "--to", "2100-01-01T00:00Z")


@dataclass(frozen=True)
class Said:
    """How a command ended; `err` is one line where it was refused."""

    code: int
    out: str
    err: str


def coverage(*arguments: object) -> Said:
    """`oodwatch coverage` in this process."""
    ran = CliRunner().invoke(app, ["coverage", *map(str, arguments)])
    if isinstance(ran.exception, OodwatchError):
        return Said(ran.exception.exit_code, ran.stdout, str(ran.exception))
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return Said(ran.exit_code, ran.stdout, ran.stderr.strip())


def stored(home: Path) -> Iterator[Check]:
    """Acceptance (4): the mean of the stored supports is P-precision."""
    deployment = make_deployment(home)
    deployment.produce([png(seed) for seed in range(300)])
    deployment.drain()
    package = load_package(deployment.model)
    engine = open_database(deployment.database)
    with engine.connect() as conn:
        reference = find_reference(conn, name=None, model_id=package.model_id)
        assert reference.id is not None
        mean = float(conn.scalar(select(func.avg(ScoreRow.support))) or 0)
        kept = reference_features(conn, reference.id)
    engine.dispose()
    features = Classifier(package).predict(np.stack([pixels(seed) for seed in range(300)])).features
    projected = (features - reference.feature_mean) @ reference.projection
    exact = precision_recall(torch.from_numpy(kept), torch.from_numpy(projected)).p_precision
    yield at_most(f"(4) AVG(support) in SQL, {mean:.6f}, less P-precision", abs(mean - exact), 1e-6)


def refused(home: Path) -> Iterator[Check]:
    """Acceptance (9): each is named in one line, and ends with another exit code than 0."""
    rng = np.random.default_rng(0)
    good = rng.normal(size=(100, 8))
    files = {
        "fewer than k + 2 rows": (good[:5], "insufficient data, 5 rows", 3),
        "rows of NaN": (np.where(good > 2.5, np.nan, good), "of 100 rows hold NaN or infinity", 2),
        "another dimension": (good[:, :5], "reference has 8 features an image, production 5", 3),
        "identical rows": (np.repeat(good[:1], 100, axis=0), "all 100 rows are equal", 1),
        "one dimension": (good[0], "needs features as numbers of shape (n, D)", 2),
    }
    np.save(home / "reference.npy", good)
    for what, (rows, words, code) in files.items():
        np.save(home / "production.npy", rows)
        sides = ("--reference-features", home / "reference.npy", "--features", home / "production.npy")
        yield _refusal(what, words, code, *sides)
    np.save(home / "production.npy", good)
    np.save(home / "equal.npy", np.ones((100, 8)))
    sides = ("--reference-features", home / "equal.npy", "--features", home / "production.npy")
    yield _refusal("a reference of identical rows", "nothing can be held against them", 3, *sides)
    for name in ("old", "new"):
        np.savez(home / f"{name}.npz", x=good, model=f"{name}@0")
    sides = ("--reference-features", home / "old.npz", "--features", home / "new.npz")
    yield _refusal("another model's features", "features of model old@0", 3, *sides)
    yield from _older_reference(home / "tiny")


def _older_reference(home: Path) -> Iterator[Check]:
    deployment = make_deployment(home)
    newer = _newer_model(deployment)
    database = ("--database", deployment.database, "--reference", "tiny-r1")
    yield _refusal("a reference older than the window's model", "belongs to model tiny@", 3, *ALWAYS, *database)
    images = ("--images", home / "calibration", "--model", newer)
    yield _refusal("a reference older than the images' model", "belongs to model tiny@", 2, *images, *database)


def _newer_model(deployment: Deployment) -> Path:
    """The deployment goes on with other weights: its first reference is older than its model."""
    home = deployment.home
    weights = {"head.weight": torch.randn(3, 12, generator=torch.Generator().manual_seed(1))}
    torch.save({**weights, "head.bias": torch.zeros(3)}, home / "newer.pt")
    make_package(
        home / "newer",
        architecture=f"{home / 'net.py'}:tiny",
        weights=home / "newer.pt",
        classes=home / "classes.txt",
        head="head",
        preprocessing=Preprocessing(SIDE, SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        name="tiny",
    )
    moved = Deployment(home, deployment.database, package="newer")
    files: list[tuple[Path, str | None]] = [(path, None) for path in sorted((home / "calibration").iterdir())]
    run_calibration(moved.settings(), files, target_fpr=0.05, temperature=1.0, representative=False)
    moved.produce([png(seed) for seed in range(60)])
    moved.drain()
    return moved.model


def _refusal(what: str, words: str, code: int, *arguments: object) -> Check:
    said = coverage(*arguments)
    holds = said.code == code and words in said.err and "\n" not in said.err
    return Check(f"(9) {what}", f"exit {said.code}: {said.err[:41]}", f"exit {code}", holds)
