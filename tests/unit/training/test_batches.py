import numpy as np
import pytest

from pipeline.training.batches import Augmentation, cosine_rate, stream_rows, vary


def test_a_stream_of_rows_shows_every_row_once_before_any_comes_again() -> None:
    stream = stream_rows(10, 0, 30, (7,))
    for shuffle in np.split(stream, 3):
        assert sorted(shuffle.tolist()) == list(range(10))
    assert stream[:10].tolist() != stream[10:20].tolist()


@pytest.mark.parametrize(("start", "count"), [(0, 3), (8, 5), (10, 10), (25, 1), (3, 40)])
def test_a_piece_of_a_stream_does_not_depend_on_where_the_reading_began(start: int, count: int) -> None:
    assert stream_rows(10, start, count, (7,)).tolist() == stream_rows(10, 0, 60, (7,))[start : start + count].tolist()


def test_the_rate_falls_by_half_a_cosine_from_its_peak_to_its_floor() -> None:
    rates = [cosine_rate(step, 200, 1e-3) for step in range(200)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[100] == pytest.approx((1e-3 + 1e-6) / 2)
    assert rates[-1] == pytest.approx(1e-6, abs=1e-7)
    assert rates == sorted(rates, reverse=True)


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (40, 16, 16, 3), dtype=np.uint8)


def test_every_varied_image_is_a_piece_of_the_bordered_original_some_of_them_mirrored() -> None:
    images = pictures()
    varied = vary(images, "flip+crop", np.random.default_rng(1))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    mirrored = 0
    for i, image in enumerate(varied):
        pieces = [padded[i, top : top + 16, left : left + 16] for top in range(5) for left in range(5)]
        straight = any(np.array_equal(image, piece) for piece in pieces)
        mirrored += not straight
        assert straight or any(np.array_equal(image[:, ::-1], piece) for piece in pieces)
    assert 8 <= mirrored <= 32


@pytest.mark.parametrize("how", ["crop", "none"])
def test_without_flips_none_is_mirrored_and_without_anything_nothing_changes(how: Augmentation) -> None:
    ramp = np.arange(1, 17, dtype=np.uint8)[None, None, :, None]
    images = np.ascontiguousarray(np.broadcast_to(ramp, (9, 16, 16, 3)))
    varied = vary(images, how, np.random.default_rng(1))
    inside = varied[:, 8, 3:-3, 0].astype(np.int64)
    assert set(np.diff(inside, axis=1).ravel().tolist()) == {1}
    assert (how == "none") == np.array_equal(varied, images)
