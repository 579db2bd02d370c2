"""Third parties' images for evaluation, beside the repository where present; never part of it."""

from pathlib import Path

import pytest

CIFAR = Path(__file__).parents[1].parent / "shared" / "data" / "cifar10_dev"


def cifar() -> Path:
    """The development pack's folder; skips the test where it is absent."""
    if not CIFAR.is_dir():
        pytest.skip("the evaluation images are not beside the repository")
    return CIFAR


def vectors(name: str) -> Path:
    """A file of published figures and their inputs; skips the test where it is absent."""
    path = CIFAR.parents[1] / "vectors" / name
    if not path.is_file():
        pytest.skip("the vectors are not beside the repository")
    return path
