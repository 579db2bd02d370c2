"""Small stand-ins: a reference, and a model that answers from the value's own bytes."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from pipeline.records import (
    ClockSource,
    DeadLetter,
    ImageProperties,
    Message,
    Outputs,
    PreparedImage,
    Range,
    Reason,
    Record,
    Reference,
    ScoredBatch,
    Scores,
)

NOW = datetime(2026, 11, 24, 3, 0, 30, tzinfo=UTC)
POISON = b"poison"


def reference(identity: int | None = None) -> Reference:
    """A reference of two classes, two features, threshold 0.5."""
    return Reference(
        name="m-r1",
        version=1,
        model_name="m",
        model_id="m@0",
        classes=("a", "b"),
        decoder="none",
        dtype="float32",
        score_name="energy",
        temperature=1.0,
        target_fpr=0.05,
        n=400,
        rank=381,
        threshold=0.5,
        p0_low=0.03,
        p0_high=0.07,
        representative=False,
        created_at=NOW,
        scores=np.linspace(0, 1, 400),
        edges=np.linspace(0.05, 0.95, 17),
        fine_edges=np.linspace(-1, 2, 255),
        class_counts=np.array([200, 200]),
        feature_mean=np.zeros(2),
        projection=np.eye(2)[:, :1],
        projected_mean=np.zeros(1),
        projected_covariance=np.eye(1),
        id=identity,
    )


def energy_of(value: bytes) -> float:
    """A number that tells which value a row was made from."""
    return sum(value) * 7919 % 1000 / 1000


def prepared(record: Record) -> PreparedImage:
    """The record as if it had been decoded."""
    return PreparedImage(
        record=record,
        message=Message(NOW, ClockSource.RECORD, "cam", None, None, None, None, False, ()),
        pixels=np.zeros((1, 1, 3), np.uint8),
        properties=ImageProperties(0.5, 0.1, 0.1, 0.0, 1),
        value_sha256=record.value or b"",
    )


def score_ranges(ranges: Sequence[Range]) -> ScoredBatch:
    """What the model thread would hand to the writer."""
    images: list[PreparedImage] = []
    index: list[int] = []
    dead: list[tuple[int, DeadLetter]] = []
    for at, portion in enumerate(ranges):
        for record in portion.records:
            if record.value == POISON:
                dead.append((at, DeadLetter(record, "decode", Reason.UNDECODABLE, "poison", NOW)))
            else:
                images.append(prepared(record))
                index.append(at)
    n = len(images)
    energies = np.array([energy_of(image.value_sha256) for image in images])
    return ScoredBatch(
        reference=reference(1),
        ranges=tuple(ranges),
        images=tuple(images),
        range_index=np.array(index, dtype=np.int64),
        outputs=Outputs(np.zeros((n, 2), np.float32), np.zeros((n, 2), np.float32)),
        scores=Scores(energies, energies, np.full(n, 0.5), np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.bool_)),
        projected=np.zeros((n, 1)),
        dead=tuple(dead),
    )
