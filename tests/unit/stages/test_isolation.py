"""A child process that dies takes no other record with it, and costs few children."""

import io
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.ingest.decode import DecodeLimits
from pipeline.ingest.message import MessageLimits
from pipeline.models.preprocessing import Preprocessing
from pipeline.records import DeadLetter, Outputs, Partition, Pixels, Reason, Record, utc_now
from pipeline.stages.isolation import Isolation
from pipeline.stages.preparation import Preparation

SIDE = 8
KILLS, RAISES = 255, 254  # the grey that does it


class _Model:
    """Its only logit is the mean grey of an image."""

    def predict(self, batch: Pixels) -> Outputs:
        greys = batch.reshape(len(batch), -1).mean(axis=1).astype(np.float32)
        if KILLS in greys:
            os._exit(11)
        if RAISES in greys:
            raise ValueError("too grey")
        return Outputs(greys[:, None], np.zeros((len(batch), 1), np.float32))


def _build(started: Path) -> tuple[Preparation, _Model]:
    with started.open("a") as log:
        log.write("x")
    preparation = Preparation(
        preprocessing=Preprocessing(input_size=SIDE, resize=SIDE, mean=(0, 0, 0), std=(1, 1, 1)),
        message_limits=MessageLimits(),
        decode_limits=DecodeLimits(),
        clock=utc_now,
    )
    return preparation, _Model()


def _record(offset: int, grey: int | None) -> Record:
    value = io.BytesIO()
    if grey is None:
        value.write(b"rubbish")
    else:
        Image.new("L", (SIDE, SIDE), grey).save(value, "PNG")
    return Record(Partition("images", "id", 0), offset, None, None, value.getvalue())


@pytest.mark.integration
def test_of_a_hundred_records_the_one_that_kills_costs_two_more_children(tmp_path: Path) -> None:
    greys: list[int | None] = [*range(100)]
    greys[40], greys[41], greys[70] = KILLS, None, RAISES
    isolation = Isolation(partial(_build, tmp_path / "started"), clock=utc_now)
    try:
        answers = list(isolation.score([_record(at, grey) for at, grey in enumerate(greys)]))
    finally:
        isolation.close()
    reasons = {at: answer.reason for at, answer in enumerate(answers) if isinstance(answer, DeadLetter)}
    logits = {
        at: float(answer[1].logits[0, 0]) for at, answer in enumerate(answers) if not isinstance(answer, DeadLetter)
    }
    assert reasons == {40: Reason.CRASH, 41: Reason.UNDECODABLE, 70: Reason.CRASH}
    assert logits == {at: at for at in range(100) if at not in reasons}
    assert (tmp_path / "started").read_text() == "xxx"
