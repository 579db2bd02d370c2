"""Other heads for the tiny model: candidates for its place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.assembly.calibrating import run_calibration
from pipeline.assembly.unpacking import with_model
from pipeline.ingest.image_files import labelled_images
from pipeline.models.package import load_package
from pipeline.models.packaging import make_repaired_package, write_repair
from tests.tiny import Deployment


def head(seed: int) -> dict[str, torch.Tensor]:
    """Weights of a last layer, by chance."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "head.weight": torch.randn(3, 12, generator=generator),
        "head.bias": torch.randn(3, generator=generator),
    }


def repaired(
    deployment: Deployment,
    name: str,
    *,
    seed: int,
    calibrated: bool = True,
    repair: Mapping[str, Any] | None = None,
) -> Path:
    """A package like the deployment's with another head, and its weights beside it as `<name>.pt`."""
    parent = load_package(deployment.model)
    out = deployment.home / name
    torch.save(head(seed), deployment.home / f"{name}.pt")
    made = make_repaired_package(out, parent, head(seed), version=f"1+{name}")
    write_repair(out, parent, {"kind": "retrain-head", **(repair or {})})
    if calibrated:
        run_calibration(
            with_model(deployment.settings(), made.path),
            labelled_images(deployment.home / "calibration"),
            target_fpr=0.05,
            temperature=1.0,
            representative=False,
        )
    return out
