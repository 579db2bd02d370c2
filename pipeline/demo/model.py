"""The demo's model: packaged, calibrated, and what normal traffic is drawn from scored."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from pipeline.assembly.calibrating import run_calibration
from pipeline.assembly.parts import matching_reference, open_model
from pipeline.demo import digits
from pipeline.demo.history import Pool, score_pool
from pipeline.ingest.image_files import find_images
from pipeline.models.packaging import make_package
from pipeline.models.preprocessing import Preprocessing
from pipeline.settings import Settings

N_CALIBRATE, N_STREAM = 2_000, 2_000


def prepare_model(
    settings: Settings,
    engine: Engine,
    home: Path,
    images: digits.DemoImages,
    going: Callable[[], None] = lambda: None,
) -> tuple[Pool, float]:
    """Package and calibrate the digit reader; the scored pool, and how quickly that was scored, images/s.

    Leaves `digits`, `calibrate` and `stream` in `home`. `going` is called between batches, to be stopped by.
    """
    classes = home / "classes.txt"
    classes.write_text("\n".join(digits.CLASSES), encoding="utf-8")
    half = (0.5, 0.5, 0.5)
    make_package(
        home / "digits",
        architecture="pipeline.demo.digits:digit_reader",
        weights=digits.WEIGHTS,
        classes=classes,
        head="head",
        preprocessing=Preprocessing(digits.INPUT_SIZE, digits.INPUT_SIZE, mean=half, std=half),
    )
    parts = open_model(settings)
    rng = np.random.default_rng(11)
    scans = np.concatenate([images.calibrate, images.stream])
    labels = np.concatenate([images.calibrate_labels, images.stream_labels])
    made, of = digits.jittered(scans, N_CALIBRATE, rng)
    digits.write_images(made, home / "calibrate", labels[of])
    digits.write_images(digits.jittered(scans, N_STREAM, rng)[0], home / "stream")
    files = [(file.path, file.parent) for file in find_images([home / "calibrate"])]
    run_calibration(
        settings, files, target_fpr=0.05, temperature=1.0, representative=True, progress=lambda _done: going()
    )
    dtype, model_id = parts.classifier.dtype, parts.package.model_id
    reference = matching_reference(engine, name=None, model_id=model_id, dtype=dtype)
    began = time.monotonic()
    pool = score_pool(settings, parts, reference, sorted((home / "stream").iterdir()))
    return pool, N_STREAM / (time.monotonic() - began)
