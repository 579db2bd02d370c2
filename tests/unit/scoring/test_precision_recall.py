import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import OodwatchError, RefusedError, UsageError
from pipeline.scoring.precision_recall import Degenerate, image_support, precision_recall
from tests.shared_data import vectors


def cases() -> dict[str, tuple[dict[str, Any], Tensor, Tensor]]:
    """The authors' figures with their inputs, float64."""
    expected = json.loads(vectors("ppr_expected.json").read_text())
    with np.load(vectors("ppr_inputs.npz")) as file:
        sets = {name: torch.from_numpy(file[name]).double() for name in file.files}
    return {name: (figures, sets[f"{name}__ref"], sets[f"{name}__prod"]) for name, figures in expected.items()}


def gauss(seed: int, n: int, d: int = 16) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_the_authors_figures_are_reproduced(dtype: torch.dtype, tolerance: float) -> None:
    for name, (figures, reference, production) in cases().items():
        made = precision_recall(reference.to(dtype), production.to(dtype), a=figures["a"], k=figures["k"])
        for figure in ("p_precision", "p_recall"):
            assert getattr(made, figure) == pytest.approx(figures[figure], abs=tolerance), name
        assert made.radius_reference == pytest.approx(figures["a"] * figures["mean_knn_ref"], rel=tolerance), name
        assert made.radius_production == pytest.approx(figures["a"] * figures["mean_knn_prod"], rel=tolerance), name
        np.testing.assert_allclose(made.support[:5], figures["psr_ref_first5"], atol=tolerance, err_msg=name)


def test_the_size_of_a_chunk_changes_nothing_and_exchanged_sets_exchange_the_figures() -> None:
    for name, (figures, reference, production) in cases().items():
        ask = {"a": figures["a"], "k": figures["k"]}
        whole = precision_recall(reference, production, **ask)
        for chunk in (7, 128, len(reference)):
            part = precision_recall(reference, production, chunk=chunk, **ask)
            assert abs(part.p_precision - whole.p_precision) <= 1e-12, (name, chunk)
            assert abs(part.p_recall - whole.p_recall) <= 1e-12, (name, chunk)
        exchanged = precision_recall(production, reference, **ask)
        assert (exchanged.p_precision, exchanged.p_recall) == (whole.p_recall, whole.p_precision), name


def test_a_case_worked_out_by_hand() -> None:
    reference, production = torch.arange(7.0)[:, None], torch.tensor([0.5, 3, 100, 101, 102, 103, 104])[:, None]
    made = precision_recall(reference.double(), production.double(), a=1, k=1)
    assert [made.radius_reference, made.p_precision] == pytest.approx([1, 0.25])
    assert [made.radius_production, made.p_recall] == pytest.approx([10 / 7, 2.9 / 7])
    assert made.p_recall_in_support is None
    assert made.degenerate == (Degenerate.NOTHING_IN_SUPPORT,)


def test_an_offset_and_a_scale_of_all_features_cost_float32_nothing() -> None:
    reference, production = gauss(1, 300), gauss(2, 200)
    plain = precision_recall(reference, production)
    moved = precision_recall((1000 * reference + 1e5).float(), (1000 * production + 1e5).float())
    assert moved.p_precision == pytest.approx(plain.p_precision, abs=1e-4)
    assert moved.p_recall == pytest.approx(plain.p_recall, abs=1e-4)


def test_float32_is_refined_where_the_radius_is_small_beside_the_spread() -> None:
    clumps = gauss(0, 20, 8).repeat_interleave(20, dim=0) * 1000
    reference, production = clumps + gauss(1, 400, 8), clumps + gauss(2, 400, 8)
    exact = precision_recall(reference, production)
    made = precision_recall(reference.float(), production.float())
    assert made.p_precision == pytest.approx(exact.p_precision, abs=1e-3)  # float32 inputs themselves are off by 1e-4
    assert made.p_recall == pytest.approx(exact.p_recall, abs=1e-3)


def test_two_percent_of_far_outliers_hide_a_loss_from_p_recall_but_not_in_support() -> None:
    modes = 6 / np.sqrt(2) * torch.eye(16, dtype=torch.float64)[:4]
    reference = gauss(1, 600) + modes[torch.arange(600) % 4]
    production = gauss(2, 600) + modes[torch.arange(600) % 3]
    production[:12] = 100 * gauss(3, 12)
    made = precision_recall(reference, production)
    assert made.p_recall > 0.99
    assert made.p_recall_in_support is not None
    assert made.p_recall_in_support < 0.65


def test_one_frame_again_and_again_covers_nothing_and_is_named() -> None:
    reference, frame = gauss(1, 100), gauss(2, 1)
    for dtype in (torch.float64, torch.float32):
        made = precision_recall(reference.to(dtype), (frame + 100).repeat(50, 1).to(dtype))
        assert (made.radius_production, made.p_recall) == (0, 0)
        assert Degenerate.PRODUCTION_EQUAL in made.degenerate
    made = precision_recall(frame.repeat(50, 1), reference)
    assert made.p_precision == 0
    assert Degenerate.REFERENCE_EQUAL in made.degenerate


def test_the_worker_s_support_averages_to_p_precision() -> None:
    reference, production = gauss(1, 500).numpy(), gauss(2, 300).numpy()
    supports = image_support(reference)
    assert supports is not None
    whole = precision_recall(torch.from_numpy(reference), torch.from_numpy(production))
    in_batches = np.concatenate([supports(production[first : first + 64]) for first in range(0, 300, 64)])
    assert in_batches.mean() == pytest.approx(whole.p_precision, abs=1e-12)
    assert supports(reference[:10]).tolist() == [1.0] * 10


def test_a_reference_of_few_or_of_equal_images_supports_nothing_that_could_be_stored() -> None:
    assert image_support(np.empty((0, 0))) is None
    assert image_support(np.zeros((5, 3))) is None
    assert image_support(np.ones((50, 3))) is None


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        (gauss(1, 5), RefusedError, "insufficient data, 5 rows, k = 4 neighbours need at least 6"),
        (torch.where(gauss(1, 50) > 2.5, torch.nan, gauss(1, 50)), UsageError, "of 50 rows hold NaN or infinity"),
        (gauss(1, 50, 8), UsageError, "the reference has 16 features a row, production 8"),
        (torch.zeros(50), UsageError, r"production has shape \(50,\)"),
    ],
)
def test_rows_of_which_nothing_can_be_said_are_refused(rows: Tensor, kind: type[OodwatchError], words: str) -> None:
    with pytest.raises(kind, match=words):
        precision_recall(gauss(0, 50), rows)


@pytest.mark.parametrize("ask", [{"a": 0.0}, {"a": np.nan}, {"k": 0}])
def test_a_radius_that_cannot_be_meant_is_refused(ask: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(ask))} = .*must be"):
        precision_recall(gauss(0, 50), gauss(1, 50), **ask)


@pytest.mark.gpu
def test_a_gpu_gives_the_figures_of_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    reference, production = gauss(1, 700, 64), gauss(2, 500, 64) + 0.3
    here = precision_recall(reference, production)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        there = precision_recall(reference.to("cuda", dtype), production.to("cuda", dtype))
        assert there.p_precision == pytest.approx(here.p_precision, abs=tolerance)
        assert there.p_recall == pytest.approx(here.p_recall, abs=tolerance)
    supports = image_support(reference.numpy(), "cuda")
    assert supports is not None
    np.testing.assert_allclose(supports(production.numpy()), here.support.numpy(), atol=1e-12)
