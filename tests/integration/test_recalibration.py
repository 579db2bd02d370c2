"""References from stored scores, and what a representative one brings."""

import json
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import Engine

from pipeline.cli.output import iso
from pipeline.ingest.source import NewRecord
from pipeline.records import Reference, utc_now
from pipeline.shift.coverage import BLOCK, limits
from pipeline.shift.folding import floor
from pipeline.shift.null import Null
from pipeline.storage.engine import open_database
from pipeline.storage.references import find_reference, reference_images
from tests.integration.typing_commands import Command
from tests.monitored import MINUTE
from tests.tiny import Deployment, png

HOUR = timedelta(hours=1)


def newest(engine: Engine, name: str) -> Reference:
    with engine.connect() as conn:
        (model_id,) = set(conn.exec_driver_sql("SELECT DISTINCT model_id FROM reference").scalars())
        return find_reference(conn, name=name, model_id=model_id)


def test_a_deployment_is_calibrated_on_what_it_has_scored(deployment: Deployment, command: Command) -> None:
    begin, span = floor(utc_now() - 6 * HOUR, 60), 4 * HOUR  # whole hours, and enough of them to know a dispersion
    spool = deployment.spool()
    for i in range(600):
        at = (begin + i % 240 * MINUTE).isoformat().encode()
        spool.append([NewRecord(png(20_000 + i), headers=(("ce_time", at),))])
    drill = (("ce_time", begin.isoformat().encode()), ("drill", b"1"))
    spool.append([NewRecord(png(1), headers=drill)])
    spool.close()
    assert deployment.drain().scored == 601
    database = ("--database", deployment.database)
    window = (*database, "--from", iso(begin), "--to", iso(begin + span))
    command("calibrate", *window).refuses(3, "no minute of reference tiny-r1 has been evaluated", "oodwatch monitor")
    assert command("monitor", "--once", *database, "--now", iso(utc_now() + HOUR)).code == 0
    answer = command("calibrate", *window, "--json")
    assert answer.code == 0, answer.err
    assert "start the workers of tiny again" in answer.err
    assert "the dispersion of less than 3 days is a guess" in answer.err
    line = json.loads(answer.out)
    assert (line["reference"], line["replaces"], line["scores"]) == ("tiny-r2", "tiny-r1", 600)
    assert line["n"] == int(600 / line["d"]) <= 600
    engine = open_database(deployment.database)
    old, new = newest(engine, "tiny-r1"), newest(engine, "tiny-r2")
    with engine.connect() as conn:
        scores = np.array(conn.exec_driver_sql("SELECT score FROM score WHERE drill = 0").scalars().all())
        assert old.id is not None
        assert new.id is not None
        kept = [len(reference_images(conn, key)) for key in (old.id, new.id)]
    engine.dispose()
    assert kept[0] == kept[1] > 0
    assert np.isin(new.scores, scores).all()
    assert np.mean(scores > new.threshold) == pytest.approx(0.05, abs=0.01)
    assert new.class_counts.sum() == pytest.approx(new.n, abs=2)
    assert (new.projection == old.projection).all()
    spool = deployment.spool()
    spool.append([NewRecord(png(2))])
    spool.close()
    deployment.drain()
    shown = command("baseline", "show", *database).out
    assert "no baseline for reference tiny-r2" in shown


def test_stored_scores_and_images_are_not_mixed(deployment: Deployment, command: Command) -> None:
    window = ("--from", "2026-01-05T00:00Z", "--to", "2026-01-06T00:00Z", "--database", deployment.database)
    command("calibrate", deployment.home / "calibration", *window).refuses(2, "neither images nor")
    command("calibrate", *window, "--temperature", 2).refuses(2, "neither images nor")
    command("calibrate", *window[:2], *window[4:]).refuses(2, "--from and --to")
    command("calibrate", *window[4:]).refuses(2, "name a folder of images")
    command("calibrate", *window).refuses(2, "nothing has been scored yet")


def test_a_representative_reference_has_its_blocks_and_others_have_none(
    deployment: Deployment, command: Command
) -> None:
    images = deployment.home / "calibration"
    flags = ("--model", deployment.model, "--database", deployment.database, "--representative", "--json")
    made = command("calibrate", images, *flags)
    assert made.code == 0, made.err
    again = command("calibrate", images, *flags)
    engine = open_database(deployment.database)
    first, second, third = (newest(engine, f"tiny-r{i}") for i in (1, 2, 3))
    engine.dispose()
    assert first.coverage is None
    assert Null.from_reference(first).classes is None
    assert second.coverage is not None
    assert third.coverage is not None
    assert again.code == 0
    assert (second.coverage.n, len(second.coverage.mean)) == (220, 12)
    assert second.coverage.t2.tolist() == third.coverage.t2.tolist()
    null = Null.from_reference(second)
    assert null.classes is not None
    assert null.coverage is second.coverage
    limit = limits(BLOCK, second.coverage)
    assert limit.low < 0 < limit.high
