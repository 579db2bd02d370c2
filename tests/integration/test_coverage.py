"""`oodwatch coverage`, as a person types it; and the support that a worker stores."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select

from pipeline.ingest.source import NewRecord
from pipeline.storage.engine import open_database
from pipeline.storage.schema import ScoreRow, TickRow
from tests.benchmarks.coverage import refused, withdrawn
from tests.integration.typing_commands import Answer, Command
from tests.shared_data import cifar, vectors
from tests.tiny import Deployment, pixels, png

START = datetime(2026, 11, 24, tzinfo=UTC)
WINDOW = ("--from", "2026-11-24T00:00Z", "--to", "2026-11-24T02:00Z")


def line(answer: Answer) -> Any:
    """The one line of JSON."""
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def produce(deployment: Deployment, pictures: list[bytes], segment: str) -> None:
    """One a minute."""
    spool = deployment.spool()
    spool.append(
        [
            NewRecord(
                picture,
                headers=(
                    ("ce_time", (START + timedelta(minutes=at)).isoformat().encode()),
                    ("segment", segment.encode()),
                    ("id", f"{segment}-{at}".encode()),
                ),
            )
            for at, picture in enumerate(pictures)
        ]
    )
    spool.close()


def dark(seed: int) -> bytes:
    """A picture whose left half is black: nothing that was calibrated on looks like it."""
    picture = pixels(seed)
    picture[:, :4] = 0
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def watched(deployment: Deployment) -> Deployment:
    """Two hours of two cameras: one as calibrated, one half black."""
    produce(deployment, [png(seed) for seed in range(100)], "good")
    produce(deployment, [dark(seed) for seed in range(100, 200)], "half-black")
    deployment.drain()
    return deployment


def test_p_precision_of_a_window_is_an_average_in_sql_and_of_ticks(watched: Deployment, command: Command) -> None:
    assert command("monitor", "--once", "--database", watched.database, "--now", "2026-11-24T03:00Z").code == 0
    engine = open_database(watched.database)
    with engine.connect() as conn:
        by_row = conn.execute(select(ScoreRow.segment_id, func.avg(ScoreRow.support)).group_by(ScoreRow.segment_id))
        of_rows = {row[0]: row[1] for row in by_row}
        by_tick = conn.execute(
            select(TickRow.segment_id, func.sum(TickRow.support_sum) / func.sum(TickRow.support_n))
            .where(TickRow.minutes == 1)
            .group_by(TickRow.segment_id)
        )
        of_ticks = {row[0]: row[1] for row in by_tick}
        whole = conn.scalar(select(func.avg(ScoreRow.support)))
    engine.dispose()
    assert of_ticks == pytest.approx({**of_rows, 0: whole}, abs=1e-12)
    told = line(command("coverage", *WINDOW, "--database", watched.database, "--json"))
    assert {one["segment"]: one["n"] for one in told["segments"]} == {"good": 100, "half-black": 100}
    assert sorted(one["p_precision"] for one in told["segments"]) == pytest.approx(sorted(of_rows.values()))


def test_a_new_camera_is_named_as_novel_with_its_pictures(
    watched: Deployment, command: Command, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    told = line(command("coverage", *WINDOW, "--database", watched.database, "--json", "--html", page))
    assert told["findings"][0] == "novel"
    assert told["segments"][0]["segment"] == "half-black"
    assert told["segments"][0]["z"] < -4 < told["segments"][1]["z"]
    assert {one["name"].rsplit("-", 1)[0] for one in told["least_supported"][:5]} == {"half-black"}
    assert told["n_production"] == 200
    text = page.read_text()
    assert text.count("data:image/webp") == 12 * 3  # of two segments, and of the reference
    assert not re.search(r"https?://|<script|@import|url\(", text)
    one = line(command("coverage", *WINDOW, "--segment", "good", "--database", watched.database, "--json"))
    assert one["n_production"] == 100
    assert "novel" not in one["findings"]


def test_folders_are_compared_as_real_and_generated_images(
    watched: Deployment, command: Command, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for seed in range(60):
        (made / f"{seed}.png").write_bytes(dark(seed) if seed % 2 else png(seed))
    real = ("--reference-images", watched.home / "calibration", "--model", watched.model)
    told = line(command("coverage", *real, "--images", made, "--json"))
    assert (told["n_reference"], told["n_production"], told["dimensions"]) == (220, 60, 12)
    assert told["findings"][0] == "novel"
    stored = ("--reference", "tiny-r1", "--model", watched.model, "--database", watched.database)
    same = line(command("coverage", *stored, "--images", made, "--json"))
    assert same["p_precision"] == pytest.approx(told["p_precision"], abs=1e-6)
    (made / "broken.png").write_bytes(b"no image")
    broken = command("coverage", *stored, "--images", made, "--json")
    assert broken.code == 1
    assert "broken.png" in broken.err
    assert json.loads(broken.out)["p_precision"] == same["p_precision"]


def test_a_file_of_features_gives_the_authors_figures(command: Command, tmp_path: Path) -> None:
    with np.load(vectors("ppr_inputs.npz")) as file:
        for side in ("ref", "prod"):
            np.save(tmp_path / f"{side}.npy", file[f"t06_unequal__{side}"])
    expected = json.loads(vectors("ppr_expected.json").read_text())["t06_unequal"]
    sides = ("--reference-features", tmp_path / "ref.npy", "--features", tmp_path / "prod.npy")
    told = line(command("coverage", *sides, "--a", 1.3, "--k", 3, "--json"))
    assert told["p_precision"] == pytest.approx(expected["p_precision"], abs=1e-6)
    assert told["p_recall"] == pytest.approx(expected["p_recall"], abs=1e-6)
    assert told["findings"] == []


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path: Path) -> None:
    for check in refused.refused(tmp_path):
        assert check.holds, check


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name one side of production"),
        (("--features", "p.npy", "--images", "b"), "name one side of production"),
        (("--features", "p.npy", "--reference", "r", "--reference-images", "a"), "name one reference"),
        (("--from", "2026-11-24T00:00Z"), "both --from and --to"),
        (("--features", "p.npy", "--segment", "s"), "--segment: belongs to --from"),
        (("--from", "2026-11-24T02:00Z", "--to", "2026-11-24T00:00Z"), "must lie before"),
        ((*WINDOW, "--dimensions", "8"), "a stored reference has its own"),
        (("--reference-features", "r.npy", "--features", "p.npy", "--dimensions", "0"), "of at least 1, or all"),
        (("--reference-features", "none.npy", "--features", "none.npy"), "no .npy file"),
        (("--reference-features", "r.npy", "--features", "p.npy", "--html", "no/such/page.html"), "there is no folder"),
    ],
)
def test_flags_that_do_not_belong_together_are_refused(
    command: Command, arguments: tuple[str, ...], words: str
) -> None:
    command("coverage", *arguments).refuses(2, words)


def test_a_window_without_samples_is_refused(deployment: Deployment, command: Command) -> None:
    deployment.produce([png(1)])
    deployment.drain()
    command("coverage", *WINDOW, "--database", deployment.database).refuses(2, "no random sample with features")


def test_a_withdrawn_class_is_named_and_its_images_shown_while_the_flags_stay_silent(tmp_path: Path) -> None:
    cifar()
    for check in withdrawn.withdrawn(tmp_path, clean=2, of_class=2, mixed=2, classes=("automobile",)):
        assert check.holds is not False, check
