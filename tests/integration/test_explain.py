"""Where in an image it is strange, as a person asks it."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import create_engine, text

from pipeline.localization.regions import Runs, from_runs
from tests.explaining_faults import BAD, prepare, saved, with_a_thing
from tests.integration.typing_commands import Answer, Command
from tests.segmenting import SAM, found_without_torchvision, save_tiny_detector
from tests.tiny import SIDE, Deployment, png


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Embeddings go here, not to the user's own folder."""
    monkeypatch.setenv("OODWATCH_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def values(answer: Answer) -> dict[str, object]:
    assert answer.code == 0, answer.err
    (line,) = answer.out.splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def masks(found: dict[str, object]) -> list[dict[str, object]]:
    listed = found["masks"]
    assert isinstance(listed, list)
    return listed


def mask_of(region: dict[str, object]) -> np.ndarray:
    runs = region["rle"]
    assert isinstance(runs, dict)
    height, width = runs["size"]
    return from_runs(Runs(height, width, tuple(runs["counts"])))


def test_a_click_a_box_and_a_drawing_on_the_same_thing_say_what_it_accounts_for(
    deployment: Deployment, command: Command, tmp_path: Path
) -> None:
    pixels = with_a_thing()
    thing = saved(tmp_path / "thing.png", pixels)
    drawn = saved(tmp_path / "drawn.png", np.where(pixels[:, :, :1] > 100, 255, 0).astype(np.uint8).repeat(3, axis=2))
    plain = saved(tmp_path / "plain.png", np.full_like(pixels, 16))
    options = ("--model", deployment.model, "--database", deployment.database, "--json")
    (scored,) = (json.loads(line) for line in command("score", plain, *options[:2], "--json").out.splitlines())
    energies = []
    for asked in (("--point", "20,20"), ("--box", "6,6,30,30"), ("--mask", drawn)):
        found = values(command("explain", thing, *asked, *options))
        best = next(region for region in masks(found) if region["share"] == pytest.approx(20 * 20 / 64**2))
        assert np.array_equal(mask_of(best), pixels[:, :, 0] > 100)
        assert best["energy_filled"] == pytest.approx(scored["energy"], abs=5e-3)
        assert abs(float(str(found["energy"])) - scored["energy"]) > 0.1
        energies.append(found["energy"])
        assert found["segmenter"] == "components (not Segment Anything)"
        assert found["reference"] == "tiny-r1"
    assert len(set(energies)) == 1


def test_three_masks_of_a_click_are_refined_by_further_ones_and_drawn_over_the_image(
    deployment: Deployment, command: Command, tmp_path: Path, state: Path
) -> None:
    thing, overlay = saved(tmp_path / "thing.png", with_a_thing()), tmp_path / "overlay.png"
    options = ("--model", deployment.model, "--database", deployment.database, "--sam", SAM, "--json")
    three = values(command("explain", thing, "--point", "20,20", "--out", overlay, *options))
    assert [region["source"] for region in masks(three)] == ["point"] * 3
    assert all(isinstance(region["mask_score"], float) for region in masks(three))
    assert str(three["segmenter"]).startswith("sam@")
    with Image.open(overlay) as picture:
        assert picture.size == (3 * 384 + 2 * 8, 384)
    assert len(list((state / "embeddings").iterdir())) == 1
    (refined,) = masks(
        values(command("explain", thing, "--point", "20,20", "--point", "50,50,0", "--refine", 2, *options))
    )
    assert refined["source"] == "refined"
    (single,) = masks(values(command("explain", thing, "--point", "20,20", "--single", *options)))
    assert single["mask_score"] != masks(three)[0]["mask_score"]
    drawn = saved(tmp_path / "drawn.png", np.full((64, 64, 3), 255, np.uint8))
    given, made = masks(values(command("explain", thing, "--mask", drawn, *options)))
    assert (given["source"], made["source"]) == ("drawn", "mask")
    assert given["energy_change"] is None  # nothing surrounds it
    assert len(list((state / "embeddings").iterdir())) == 1


def test_by_itself_it_names_the_region_or_says_that_no_single_one_explains_the_image(
    deployment: Deployment, command: Command, tmp_path: Path
) -> None:
    thing, noise = saved(tmp_path / "thing.png", with_a_thing()), tmp_path / "noise.png"
    noise.write_bytes(png(1))
    options = ("--model", deployment.model, "--database", f"sqlite:///{tmp_path / 'none.db'}")
    found = values(command("explain", thing, "--auto", "--json", "--out", tmp_path / "map.png", *options))
    changes = [float(str(region["energy_change"])) for region in masks(found)]
    assert changes == sorted(changes)
    assert found["reference"] is None
    explaining = found["explaining"]
    assert explaining == (0 if changes[0] <= -1 else None)
    assert ("region 1 explains it" if explaining == 0 else "no single region") in str(found["verdict"])
    nothing = values(command("explain", noise, "--json", *options))
    assert (nothing["masks"], nothing["explaining"]) == ([], None)
    assert nothing["verdict"] == "no single region explains it: none was found"
    table = command("explain", thing, *options)
    assert table.code == 0
    assert "segmenter: components (not Segment Anything)" in table.out
    assert not (tmp_path / "none.db").exists()


def test_words_need_a_detector_and_are_answered_with_one(
    deployment: Deployment, command: Command, tmp_path: Path
) -> None:
    thing = saved(tmp_path / "thing.png", with_a_thing())
    options = ("--model", deployment.model, "--database", deployment.database)
    command("explain", thing, "--text", "cat", *options).refuses(2, "--text needs a zero-shot detector", "--grounder")
    detector = save_tiny_detector(tmp_path / "detector")
    found = values(command("explain", thing, "--text", "cat", "--grounder", detector, "--sam", SAM, "--json", *options))
    assert {region["source"] for region in masks(found)} == {"text"}
    assert 1 <= len(masks(found)) <= 5


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_asked_is_refused_in_one_line(
    deployment: Deployment, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, case)
    arguments, code, words = BAD[case]
    command("explain", *arguments, "--model", deployment.model, "--database", deployment.database).refuses(code, *words)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_channels_of_other_kinds_are_seen_as_the_worker_sees_them(
    deployment: Deployment, command: Command, tmp_path: Path, mode: str
) -> None:
    image = Image.fromarray(with_a_thing()).convert(mode)
    path = tmp_path / ("other.jpg" if mode == "CMYK" else "other.png")
    image.save(path)
    found = values(command("explain", path, "--json", "--model", deployment.model, "--database", deployment.database))
    (scored,) = command("score", path, "--model", deployment.model, "--json").out.splitlines()
    assert found["energy"] == pytest.approx(json.loads(scored)["energy"], abs=1e-5)


def stored_value() -> bytes:
    """A flagged image: dark where the calibration never was, but for a corner."""
    out = io.BytesIO()
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[:3, :3] = 90
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def produced(deployment: Deployment, command: Command, tmp_path: Path) -> list[str]:
    """Ids of images that went through the worker."""
    folder = tmp_path / "sent"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.png").write_bytes(png(i))
    (folder / "odd.png").write_bytes(stored_value())
    assert command("produce", folder, "--source", deployment.source).code == 0
    deployment.drain()
    return sorted(path.name for path in folder.iterdir())


def rows(deployment: Deployment, statement: str) -> list[tuple[object, ...]]:
    engine = create_engine(deployment.database)
    with engine.connect() as conn:
        found = [tuple(row) for row in conn.execute(text(statement))]
    engine.dispose()
    return found


def test_a_stored_image_is_explained_from_the_log_and_known_the_second_time(
    deployment: Deployment, command: Command, tmp_path: Path, state: Path
) -> None:
    produced(deployment, command, tmp_path)
    ((energy, sha256),) = rows(deployment, "SELECT energy, value_sha256 FROM score WHERE id = 'odd.png'")
    options = ("--model", deployment.model, "--database", deployment.database, "--json")
    log = ("--source", deployment.source)
    original = values(command("explain", "--id", "odd.png", "--sam", SAM, *options, *log))
    assert (original["picture"], original["image"], original["reference"]) == ("original", "odd.png", "tiny-r1")
    assert original["energy"] == pytest.approx(energy, abs=1e-6)
    assert sha256 == hashlib.sha256(stored_value()).digest()
    assert [path.name[:64] for path in (state / "embeddings").iterdir()] == [hashlib.sha256(stored_value()).hexdigest()]
    assert values(command("explain", "--id", "odd.png", "--sam", SAM, *options)) == original  # not the thumbnail
    assert rows(deployment, "SELECT count(*) FROM explanation") == [(1,)]
    thumbnail = values(command("explain", "--id", "odd.png", "--point", "2,2", *options))
    assert thumbnail["picture"] == "thumbnail"
    erased = json.loads(command("forget", "--id", "odd.png", "--yes", "--json", *options[2:4], *log).out)
    assert (erased["samples"] >= 1, erased["explanations"], erased["embeddings"]) == (True, 1, 1)
    assert rows(deployment, "SELECT count(*) FROM explanation") == [(0,)]
    assert list((state / "embeddings").iterdir()) == []
    command("explain", "--id", "odd.png", *options).refuses(2, "no scored image has the id")


def test_an_image_that_is_no_longer_stored_is_named(deployment: Deployment, command: Command, tmp_path: Path) -> None:
    produced(deployment, command, tmp_path)
    engine = create_engine(deployment.database)
    with engine.begin() as conn:
        conn.execute(text("DELETE FROM sample"))
    engine.dispose()
    options = ("--model", deployment.model, "--database", deployment.database)
    command("explain", "--id", "odd.png", *options).refuses(2, "is no longer stored", "--source")
    assert command("explain", "--id", "odd.png", "--source", deployment.source, *options).code == 0
    deployment.spool().append([])
    (tmp_path / "spool" / "images" / "log.sqlite").rename(tmp_path / "gone.sqlite")
    deployment.produce([png(1)])
    gone = command("explain", "--id", "odd.png", "--point", "1,1", "--source", deployment.source, *options)
    gone.refuses(2, "is no longer stored", "does not hold it any more")


def test_flagged_samples_are_explained_in_the_background_each_once(
    deployment: Deployment, command: Command, tmp_path: Path
) -> None:
    produced(deployment, command, tmp_path)
    ((flagged,),) = rows(deployment, "SELECT count(*) FROM score WHERE is_ood = 1")
    assert isinstance(flagged, int)
    assert flagged >= 1
    options = ("--flagged", "--model", deployment.model, "--database", deployment.database, "--json")
    assert values(command("explain", *options, "--limit", 1)) == {"explained": 1, "failed": 0}
    assert values(command("explain", *options)) == {"explained": flagged - 1, "failed": 0}
    assert values(command("explain", *options)) == {"explained": 0, "failed": 0}
    assert values(command("explain", *options, "--sam", SAM)) == {"explained": flagged, "failed": 0}
    assert rows(deployment, "SELECT count(*) FROM explanation") == [(2 * flagged,)]


def test_it_runs_where_torchvision_is_not_installed(tmp_path: Path) -> None:
    assert found_without_torchvision(tmp_path) == (3, 192)
