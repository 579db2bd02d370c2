import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import UsageError
from pipeline.localization.regions import box_of
from pipeline.localization.sam import AutomaticLimits, SamSegmenter
from pipeline.localization.segmenter import Point, Prompt, refine
from tests.segmenting import ALL, KINDS, SAM, Encodings, official, picture, prompts, tiny_sam

CLICK = Prompt((Point(225, 150),))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> SamSegmenter:
    return tiny_sam(tmp_path_factory.mktemp("embeddings"))


def test_the_embedding_is_the_official_one(segmenter: SamSegmenter) -> None:
    assert segmenter.embedding(picture()).numpy() == pytest.approx(official()["embedding"], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masks", [3, 1])
def test_logits_and_scores_are_the_official_ones(segmenter: SamSegmenter, kind: str, masks: int) -> None:
    expected = official()
    named = f"{kind}_{int(masks == 3)}"
    logits, scores = segmenter.decode(segmenter.embedding(picture()), (300, 450), prompts()[kind], multimask=masks == 3)
    assert logits.shape == (masks, 32, 32)
    assert logits.numpy() == pytest.approx(expected[f"{named}_lowres"], abs=1e-4)
    assert scores == pytest.approx(expected[f"{named}_iou"], abs=1e-4)


def test_the_search_for_all_regions_finds_the_official_masks(segmenter: SamSegmenter) -> None:
    expected = official()
    found = segmenter.everything(picture())
    assert len(found) == 192
    assert sorted(one.score for one in found) == pytest.approx(expected["amg_scores"], abs=3e-4)
    areas = np.sort([int(one.mask.sum()) for one in found])
    assert np.abs(areas - np.sort(expected["amg_areas"])).max() <= 0.002 * 300 * 450


def test_only_what_is_sure_and_stable_stays(tmp_path: Path) -> None:
    segmenter = tiny_sam(tmp_path, automatic=AutomaticLimits())
    sharp = torch.full((32, 32), -10.0)
    sharp[4:16, 4:20] = 10
    soft, nothing = sharp / 20, torch.full((32, 32), -10.0)  # of nothing both cuts are empty: 0 / 0
    logits = torch.stack([sharp, soft, nothing, sharp, sharp])
    found = segmenter._sure(logits, torch.tensor([0.9, 0.95, 0.99, 0.88, 0.881]), (300, 450))
    assert [one.score for one in found] == pytest.approx([0.9, 0.881])
    assert found[0].stability is not None
    assert 0.95 <= found[0].stability < 1
    # 12 x 16 of the 21.25 x 32 cells that the picture fills
    assert found[0].mask.mean() == pytest.approx(12 * 16 / (21.25 * 32), abs=0.01)
    assert segmenter.everything(picture()) == []


def test_of_masks_with_nearly_the_same_box_the_best_stays(segmenter: SamSegmenter, tmp_path: Path) -> None:
    found = segmenter.everything(picture())
    kept = tiny_sam(tmp_path, automatic=AutomaticLimits(8, -np.inf, -1, 0.7)).everything(picture())
    best = max(found, key=lambda one: one.score)
    assert box_of(kept[0].mask) == box_of(best.mask)
    assert 1 <= len(kept) < 192


def test_the_encoder_runs_once_however_often_a_person_clicks_and_not_in_the_next_process(tmp_path: Path) -> None:
    first, later = tiny_sam(tmp_path), tiny_sam(tmp_path)
    ran, ran_later = Encodings(first), Encodings(later)
    clicks = [Prompt((Point(20 * i, 10 * i),)) for i in range(8)]
    answers = [first.segment(picture(), click) for click in clicks]
    assert ran.count == 1
    again = [later.segment(picture(), click) for click in clicks]
    assert ran_later.count == 0
    for one, other in zip(answers, again, strict=True):
        assert [candidate.score for candidate in one] == [candidate.score for candidate in other]
    first.segment(picture("another"), CLICK)
    assert ran.count == 2


def test_a_decode_of_the_cached_embedding_is_bit_equal_to_the_whole_forward_pass(segmenter: SamSegmenter) -> None:
    segmenter.embedding(picture())
    logits, scores = segmenter.decode(segmenter.embedding(picture()), (300, 450), CLICK, multimask=True)
    inputs = segmenter._processor(images=official()["image"], return_tensors="pt")
    points = torch.tensor([[[[225.0, 150.0]]]]) * torch.tensor([128 / 450, 85 / 300])
    with torch.inference_mode():
        whole = segmenter._model(pixel_values=inputs["pixel_values"], input_points=points, multimask_output=True)
    assert torch.equal(logits, whole.pred_masks[0, 0])
    assert np.array_equal(scores, whole.iou_scores[0, 0].numpy())


def test_a_lone_click_gets_three_masks_and_everything_else_one(segmenter: SamSegmenter) -> None:
    three = segmenter.segment(picture(), CLICK)
    assert len(three) == 3
    assert all(one.mask.shape == (300, 450) and one.mask.dtype == np.bool_ for one in three)
    (one,) = segmenter.segment(picture(), Prompt(CLICK.points, wants_one=True))
    assert one.score == pytest.approx(float(official()["point_0_iou"][0]), abs=1e-4)
    for kind in ("two_points", "box", "point_box"):
        (single,) = segmenter.segment(picture(), prompts()[kind])
        assert single.score == pytest.approx(float(official()[f"{kind}_0_iou"][0]), abs=1e-4)
    (drawn,) = segmenter.segment(picture(), Prompt(drawn=three[0].mask))
    assert drawn.mask.shape == (300, 450)


def test_a_refinement_starts_from_the_chosen_masks_logits(segmenter: SamSegmenter) -> None:
    clicks = (Point(225, 150), Point(40, 250, False))
    chosen = segmenter.segment(picture(), CLICK)[1]
    (refined,) = refine(segmenter, picture(), Prompt(clicks), 1)
    (expected,) = segmenter.segment(picture(), Prompt(clicks, previous=chosen.logits, wants_one=True))
    (without,) = segmenter.segment(picture(), Prompt(clicks))
    assert refined.score == expected.score
    assert refined.score != without.score
    with pytest.raises(UsageError, match="are not this model's, whose are 32 x 32"):
        segmenter.segment(picture(), Prompt(clicks, previous=np.zeros((256, 256), np.float32)))


def test_a_drawn_region_becomes_logits_of_the_padded_square_and_a_thin_line_does_not_vanish(
    segmenter: SamSegmenter,
) -> None:
    mask = np.zeros((300, 450), np.bool_)
    mask[:, :225] = True
    logits = segmenter._drawn(mask)
    assert logits.shape == (32, 32)
    assert set(logits.flatten().tolist()) == {-10.0, 10.0}
    assert (logits[:21, :16] == 10).all()
    assert (logits[21:] == -10).all()  # 300 of 450 pixels: the lower third is padding
    mask[:] = False
    mask[150, 10:400] = True
    assert (segmenter._drawn(mask) == 10).sum() >= 26


def test_the_name_changes_with_the_weights(segmenter: SamSegmenter, tmp_path: Path) -> None:
    other = shutil.copytree(SAM, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["mask_decoder.iou_token.weight"] += 1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    changed = SamSegmenter(other, segmenter._cache, device=torch.device("cpu"), automatic=ALL)
    assert changed.name.startswith("sam@")
    assert changed.name != segmenter.name


def broken(folder: Path, fault: str) -> Path:
    """A folder with one thing wrong."""
    shutil.copytree(SAM, folder)
    weights = load_file(SAM / "model.safetensors")
    if fault == "no config":
        (folder / "config.json").unlink()
    elif fault == "no weights":
        (folder / "model.safetensors").unlink()
    elif fault == "another model":
        (folder / "config.json").write_text(json.dumps({"model_type": "sam2"}))
    elif fault == "a pickle":
        (folder / "model.safetensors").unlink()
        torch.save(weights, folder / "pytorch_model.bin")
    elif fault == "a lost tensor":
        del weights["mask_decoder.iou_token.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    elif fault == "another shape":
        weights["mask_decoder.iou_token.weight"] = torch.zeros(1, 48)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    elif fault == "a torn file":
        (folder / "model.safetensors").write_bytes((SAM / "model.safetensors").read_bytes()[:5000])
    return folder


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no config", ("no model in it", "config.json")),
        ("no weights", ("cannot be loaded", "model.safetensors")),
        ("another model", ("of type 'sam2'", "of type 'sam'")),
        ("a pickle", ("cannot be loaded",)),
        ("a lost tensor", ("lack 1 tensors", "mask_decoder.iou_token.weight")),
        ("another shape", ("cannot be loaded",)),
        ("a torn file", ("cannot be loaded",)),
    ],
)
def test_weights_that_cannot_be_used_are_refused_in_one_line(
    tmp_path: Path, fault: str, words: tuple[str, ...]
) -> None:
    folder = broken(tmp_path / "sam", fault)
    with pytest.raises(UsageError) as caught:
        SamSegmenter(folder, tiny_sam(tmp_path / "e")._cache, device=torch.device("cpu"))
    for word in (*words, f"--sam {folder}"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tiny_sam(tmp_path)._cache
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"--sam needs the Python package transformers.*oodwatch\[explain\]"):
        SamSegmenter(SAM, cache, device=torch.device("cpu"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every attempt to connect, each of which fails."""
    attempts: list[object] = []

    def refuse(_socket: socket.socket, address: object) -> None:
        attempts.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts


def test_a_local_folder_is_the_only_source(tmp_path: Path, no_network: list[object]) -> None:
    assert len(tiny_sam(tmp_path).segment(picture(), CLICK)) == 3
    with pytest.raises(UsageError, match="no model in it"):
        SamSegmenter(Path("facebook/sam-vit-base"), tiny_sam(tmp_path)._cache, device=torch.device("cpu"))
    assert no_network == []
